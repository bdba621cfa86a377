//! The Merkle tree of each feed: where its nodes are in the index, how an append adds them, and proofs from them.
//!
//! The leaf at `seq` completes the perfect subtrees of the levels 1 to t that end with it, where t is the number of
//! ones at the end of `seq` in binary. Their hashes are the value of one key `n feed seq`, so an append writes half a
//! key and one hash on average, and a node is one read: node (level, index) stands at `level - 1` under the last of its
//! leaves. Leaves themselves (level 0) are in their records.
//!
//! Invariant: a node is there exactly when all its leaves are, in whatever order they came. So what is stored follows
//! from the leaves alone: applying a frame twice changes nothing, a rebuild ends with the same keys, and `audit` and
//! `check` can tell what is wrong.

use std::collections::BTreeMap;

use lotline_schema::Hash;
use lotline_schema::tree::{self, node_hash};

use super::{
    error::StoreError,
    index::{IndexError, NODES, Record, numbered_key, record_key},
    reader::Reader,
};

const HASH_BYTES: usize = 32;
/// A tree of as many leaves as a sequence number can name has no more levels.
const LEVELS: u32 = 64;

/// The tree of the first `size` entries of a feed: roots and proofs of any size up to that, from a few dozen reads of
/// the index, whatever the length of the feed. `settle` first: what the index has not taken up yet has no nodes.
pub struct FeedTree<'a> {
    reader: &'a Reader,
    feed: u32,
    size: u64,
}

impl<'a> FeedTree<'a> {
    pub(super) fn new(reader: &'a Reader, feed: u32, size: u64) -> FeedTree<'a> {
        FeedTree { reader, feed, size }
    }

    /// The root of the first `size` entries.
    pub fn root(&self, size: u64) -> Result<Hash, StoreError> {
        self.within(size)?;
        tree::root(size, |level, index| self.node(level, index))
    }

    /// The path that proves entry `index` in the tree of the first `size` entries.
    pub fn inclusion(&self, index: u64, size: u64) -> Result<Vec<Hash>, StoreError> {
        self.within(size)?;
        tree::inclusion(index, size, |level, index| self.node(level, index))?.ok_or_else(|| self.outside(index))
    }

    /// The proof that the tree of the first `old` entries is the beginning of that of the first `new`.
    pub fn consistency(&self, old: u64, new: u64) -> Result<Vec<Hash>, StoreError> {
        self.within(new)?;
        tree::consistency(old, new, |level, index| self.node(level, index))?.ok_or_else(|| self.outside(old))
    }

    fn within(&self, size: u64) -> Result<(), StoreError> {
        if size <= self.size { Ok(()) } else { Err(self.outside(size)) }
    }

    fn outside(&self, asked: u64) -> StoreError {
        StoreError::OutsideTree { feed: self.feed, size: self.size, asked }
    }

    fn node(&self, level: u32, index: u64) -> Result<Hash, StoreError> {
        let missing = || StoreError::NoNode { feed: self.feed, first: index << level, last: last_leaf(level, index).unwrap_or(u64::MAX) };
        self.reader.node(self.feed, level, index)?.ok_or_else(missing)
    }
}

/// Node `index` of a level, unless some leaf of it is not here.
pub(super) fn read(db: &sled::Db, feed: u32, level: u32, index: u64) -> Result<Option<Hash>, IndexError> {
    if level == 0 {
        let Some(value) = db.get(record_key(feed, index))? else { return Ok(None) };
        return Ok(Record::leaf(&value).ok_or(IndexError::Entry)?.map(Hash));
    }
    let Some(last) = last_leaf(level, index) else { return Ok(None) };
    let Some(value) = db.get(nodes_key(feed, last))? else { return Ok(None) };
    let at = HASH_BYTES * (level as usize - 1);
    Ok(value.get(at..at + HASH_BYTES).and_then(Hash::from_slice))
}

/// Key of the nodes that the leaf at `seq` completes.
pub(super) fn nodes_key(feed: u32, seq: u64) -> [u8; 13] {
    numbered_key(NODES, feed, seq)
}

/// How many nodes a value holds.
pub(super) fn nodes_in(value: &[u8]) -> u64 {
    (value.len() / HASH_BYTES) as u64
}

fn last_leaf(level: u32, index: u64) -> Option<u64> {
    let below = 1_u64.checked_shl(level)? - 1;
    (index <= u64::MAX >> level).then_some(index << level | below)
}

/// The trees that are being written. Keeps the right edge of each feed it has appended to, a few dozen hashes, so that
/// appending reads nothing.
#[derive(Default)]
pub(super) struct Trees {
    /// Nothing of these feeds is in the index at or beyond the end of the edge.
    edges: BTreeMap<u32, Edge>,
}

impl Trees {
    /// What is to be written because the leaf at `seq` is new or another than before. It goes before the record that
    /// says so: after a stop in between the leaf is new once more.
    pub(super) fn learn(&mut self, db: &sled::Db, feed: u32, seq: u64, leaf: Hash) -> Result<BTreeMap<u64, Vec<u8>>, IndexError> {
        if self.edges.get(&feed).is_none_or(|edge| edge.end != seq) {
            // The first append after a start, a gap, or an entry within the feed.
            self.edges.remove(&feed);
            if seq < u64::MAX && db.range(record_key(feed, seq + 1)..=record_key(feed, u64::MAX)).next().transpose()?.is_some() {
                return mend(db, feed, seq, leaf);
            }
            self.edges.insert(feed, Edge::read(db, feed, seq)?);
        }
        let completed = self.edges.get_mut(&feed).map(|edge| edge.push(leaf)).unwrap_or_default();
        Ok(if completed.is_empty() { BTreeMap::new() } else { BTreeMap::from([(seq, completed)]) })
    }
}

/// What is to be written because a leaf changed that has others behind it: the way up, as far as there are siblings.
fn mend(db: &sled::Db, feed: u32, seq: u64, leaf: Hash) -> Result<BTreeMap<u64, Vec<u8>>, IndexError> {
    let mut nodes = BTreeMap::new();
    let mut hash = leaf;
    for level in 0..LEVELS - 1 {
        let index = seq >> level;
        let Some(sibling) = read(db, feed, level, index ^ 1)? else { break };
        hash = if index & 1 == 1 { node_hash(&sibling, &hash) } else { node_hash(&hash, &sibling) };
        let last = seq | ((1 << (level + 1)) - 1);
        let value: &mut Vec<u8> = match nodes.entry(last) {
            std::collections::btree_map::Entry::Occupied(value) => value.into_mut(),
            std::collections::btree_map::Entry::Vacant(place) => {
                place.insert(db.get(nodes_key(feed, last))?.map_or_else(Vec::new, |value| value.to_vec()))
            }
        };
        let at = HASH_BYTES * level as usize;
        if value.len() < at {
            return Err(IndexError::Entry);
        }
        // What stood above was made of the leaf as it was, and its siblings are there: it follows in the next rounds.
        value.truncate(at);
        value.extend_from_slice(&hash.0);
    }
    Ok(nodes)
}

/// The perfect subtrees that end where a feed ends, largest first, each as large as can be; back to the beginning of the
/// feed or to the first gap. What lies before a gap never becomes a part of anything.
#[derive(Default)]
pub(super) struct Edge {
    end: u64,
    nodes: Vec<(u32, Hash)>,
}

impl Edge {
    /// An edge that a gap ends at once.
    pub(super) fn after_gap(end: u64) -> Edge {
        Edge { end, nodes: Vec::new() }
    }

    /// The sequence number of the next leaf.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    fn read(db: &sled::Db, feed: u32, end: u64) -> Result<Edge, IndexError> {
        let (mut nodes, mut rest) = (Vec::new(), end);
        while rest > 0 {
            let level = rest.trailing_zeros();
            let Some(node) = read(db, feed, level, (rest >> level) - 1)? else { break };
            nodes.push((level, node));
            rest &= rest - 1;
        }
        nodes.reverse();
        Ok(Edge { end, nodes })
    }

    /// Appends a leaf; the hashes of the subtrees that it completes, level by level.
    pub(super) fn push(&mut self, leaf: Hash) -> Vec<u8> {
        let (mut completed, mut hash, mut level) = (Vec::new(), leaf, 0);
        // A right child whose left sibling is here. After a gap it may not be, and then nothing above is complete.
        while self.end.checked_shr(level).is_some_and(|index| index & 1 == 1) {
            let Some((_, left)) = self.nodes.pop_if(|(of, _)| *of == level) else { break };
            hash = node_hash(&left, &hash);
            completed.extend_from_slice(&hash.0);
            level += 1;
        }
        self.nodes.push((level, hash));
        self.end = self.end.saturating_add(1);
        completed
    }
}
