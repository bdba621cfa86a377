//! The Merkle tree of RFC 9162 section 2.1 over SHA-256: leaves, roots, inclusion and consistency. Proofs are made from
//! perfect nodes, wherever they are kept, and checked from hashes alone.

use std::convert::Infallible;

use crate::id::Hash;

/// SHA-256(00 ‖ entry).
pub fn leaf_hash(entry: &[u8]) -> Hash {
    Hash::of(&[&[0], entry])
}

/// SHA-256(01 ‖ left ‖ right).
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Hash::of(&[&[1], &left.0, &right.0])
}

/// The root of the empty tree: SHA-256 of nothing.
pub fn empty_root() -> Hash {
    Hash::of(&[])
}

/// The right edge of a tree: the roots of its perfect subtrees, largest first. Enough to append and to know the root.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Frontier {
    size: u64,
    edges: Vec<Hash>,
}

impl Frontier {
    /// The empty tree.
    pub fn new() -> Frontier {
        Frontier::default()
    }

    /// A stored frontier; none if the number of edges does not belong to the size.
    pub fn from_parts(size: u64, edges: Vec<Hash>) -> Option<Frontier> {
        (edges.len() == size.count_ones() as usize).then_some(Frontier { size, edges })
    }

    /// Leaves so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The roots of the perfect subtrees, largest first.
    pub fn edges(&self) -> &[Hash] {
        &self.edges
    }

    /// Appends a leaf.
    pub fn push(&mut self, leaf: Hash) {
        let mut hash = leaf;
        for _ in 0..self.size.trailing_ones() {
            let left = self.edges.pop().expect("one edge a set bit of the size");
            hash = node_hash(&left, &hash);
        }
        self.edges.push(hash);
        self.size += 1;
    }

    /// The root.
    pub fn root(&self) -> Hash {
        let mut edges = self.edges.iter().rev();
        match edges.next() {
            None => empty_root(),
            Some(smallest) => edges.fold(*smallest, |right, left| node_hash(left, &right)),
        }
    }
}

/// The root of the first `size` leaves, from the perfect nodes of the tree.
///
/// `node(level, index)` is the root of the `2^level` leaves from `index * 2^level` on; level 0 is a leaf. It is asked
/// only for nodes whose leaves all lie within `size`, at most once for every bit of `size`, and an error of it ends the
/// work. Where the nodes are kept is the caller's business: in memory ([`Tree`]) or behind an index, a read each.
///
/// ```
/// # use std::convert::Infallible;
/// # use lotline_schema::{Hash, tree::{leaf_hash, node_hash, root}};
/// let leaf = |at: u64| leaf_hash(&[at as u8]);
/// let of_two = root(2, |level, index| Ok::<Hash, Infallible>(match level {
///     0 => leaf(index),
///     _ => node_hash(&leaf(2 * index), &leaf(2 * index + 1)),
/// }));
/// assert_eq!(of_two, Ok(node_hash(&leaf(0), &leaf(1))));
/// ```
pub fn root<E>(size: u64, mut node: impl FnMut(u32, u64) -> Result<Hash, E>) -> Result<Hash, E> {
    if size == 0 { Ok(empty_root()) } else { range(0, size, &mut node) }
}

/// The path that proves leaf `index` in the tree of the first `size` leaves (RFC 9162 2.1.3.1), from the perfect nodes
/// that `node` gives (see [`root`]), at most `2 * log2(size) + 2` of them. None when the leaf lies outside.
pub fn inclusion<E>(index: u64, size: u64, mut node: impl FnMut(u32, u64) -> Result<Hash, E>) -> Result<Option<Vec<Hash>>, E> {
    if index >= size {
        return Ok(None);
    }
    let mut path = Vec::new();
    let (mut from, mut to) = (0, size);
    while to - from > 1 {
        let middle = from + split(to - from);
        if index < middle {
            path.push(range(middle, to, &mut node)?);
            to = middle;
        } else {
            path.push(range(from, middle, &mut node)?);
            from = middle;
        }
    }
    path.reverse();
    Ok(Some(path))
}

/// The proof that the tree of `old` leaves is the beginning of that of `new` (RFC 9162 2.1.4.1), from the perfect nodes
/// that `node` gives (see [`root`]), at most `2 * log2(new) + 2` of them. None for the empty tree, which proves
/// nothing, and when `old` is above `new`.
pub fn consistency<E>(old: u64, new: u64, mut node: impl FnMut(u32, u64) -> Result<Hash, E>) -> Result<Option<Vec<Hash>>, E> {
    if old == 0 || old > new {
        return Ok(None);
    }
    let mut path = Vec::new();
    let (mut from, mut to, mut known) = (0, new, true);
    while old != to {
        let middle = from + split(to - from);
        if old <= middle {
            path.push(range(middle, to, &mut node)?);
            to = middle;
        } else {
            path.push(range(from, middle, &mut node)?);
            from = middle;
            known = false;
        }
    }
    if !known {
        path.push(range(from, to, &mut node)?);
    }
    path.reverse();
    Ok(Some(path))
}

/// The root of the leaves in `[from, to)`, which is not empty; `from` is a multiple of its size rounded up to a power
/// of two. Its perfect subtrees are the set bits of the size, the smallest last.
fn range<E>(from: u64, to: u64, node: &mut impl FnMut(u32, u64) -> Result<Hash, E>) -> Result<Hash, E> {
    let (mut rest, mut root) = (to - from, None);
    while rest > 0 {
        let level = rest.trailing_zeros();
        rest &= rest - 1;
        let left = node(level, (from + rest) >> level)?;
        root = Some(root.map_or(left, |right| node_hash(&left, &right)));
    }
    Ok(root.expect("a range has a leaf"))
}

/// The largest power of two below `span` (which is above 1).
fn split(span: u64) -> u64 {
    1 << (63 - (span - 1).leading_zeros())
}

/// A whole tree in memory: `levels[0]` holds the leaves, each level the perfect nodes above.
pub struct Tree {
    levels: Vec<Vec<Hash>>,
}

impl Tree {
    /// From all leaves.
    pub fn new(leaves: Vec<Hash>) -> Tree {
        let mut levels = vec![leaves];
        while levels.last().is_some_and(|level| level.len() > 1) {
            let below = levels.last().expect("just seen");
            levels.push(below.chunks_exact(2).map(|pair| node_hash(&pair[0], &pair[1])).collect());
        }
        Tree { levels }
    }

    /// How many leaves.
    pub fn size(&self) -> u64 {
        self.levels[0].len() as u64
    }

    /// The root of the first `size` leaves.
    ///
    /// # Panics
    ///
    /// When there are fewer leaves: a size that a stranger names is compared with [`Tree::size`] first.
    pub fn root(&self, size: u64) -> Hash {
        let Ok(root) = root(size, self.nodes());
        root
    }

    /// The path that proves leaf `index` in the tree of the first `size` leaves; see [`inclusion`].
    pub fn inclusion(&self, index: u64, size: u64) -> Option<Vec<Hash>> {
        let Ok(path) = inclusion(index, size.min(self.size()), self.nodes());
        path.filter(|_| size <= self.size())
    }

    /// The proof that the tree of `old` leaves is the beginning of that of `new`; see [`consistency`].
    pub fn consistency(&self, old: u64, new: u64) -> Option<Vec<Hash>> {
        let Ok(path) = consistency(old, new.min(self.size()), self.nodes());
        path.filter(|_| new <= self.size())
    }

    fn nodes(&self) -> impl FnMut(u32, u64) -> Result<Hash, Infallible> + '_ {
        |level, index| Ok(self.levels[level as usize][index as usize])
    }
}

/// A proof that does not lead where it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The index lies outside the tree.
    #[error("index {index} lies outside a tree of {size}")]
    Outside {
        /// The index asked for.
        index: u64,
        /// The size of the tree.
        size: u64,
    },
    /// The proof has too few or too many hashes for its place.
    #[error("the proof has the wrong number of hashes")]
    Length,
    /// The hashes lead to another root.
    #[error("the proof leads to another root")]
    Root,
}

/// Checks an inclusion proof (RFC 9162 2.1.3.2). The path must have exactly the length its place asks for.
pub fn verify_inclusion(leaf: &Hash, index: u64, size: u64, path: &[Hash], root: &Hash) -> Result<(), ProofError> {
    match root_from_inclusion(leaf, index, size, path)? == *root {
        true => Ok(()),
        false => Err(ProofError::Root),
    }
}

/// The root to which an inclusion proof leads, if it has the length its place asks for.
pub fn root_from_inclusion(leaf: &Hash, index: u64, size: u64, path: &[Hash]) -> Result<Hash, ProofError> {
    if index >= size {
        return Err(ProofError::Outside { index, size });
    }
    let (mut node, mut last, mut hash) = (index, size - 1, *leaf);
    for step in path {
        if last == 0 {
            return Err(ProofError::Length);
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(step, &hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, step);
        }
        node >>= 1;
        last >>= 1;
    }
    if last == 0 { Ok(hash) } else { Err(ProofError::Length) }
}

/// Checks a consistency proof (RFC 9162 2.1.4.2). Equal sizes need equal roots and no proof; size 0 proves nothing.
pub fn verify_consistency(old: u64, old_root: &Hash, new: u64, new_root: &Hash, path: &[Hash]) -> Result<(), ProofError> {
    if old == 0 || old > new {
        return Err(ProofError::Outside { index: old, size: new });
    }
    if old == new {
        return match (path.is_empty(), old_root == new_root) {
            (false, _) => Err(ProofError::Length),
            (true, true) => Ok(()),
            (true, false) => Err(ProofError::Root),
        };
    }
    let mut steps = path.iter();
    let seed = if old.is_power_of_two() { *old_root } else { *steps.next().ok_or(ProofError::Length)? };
    let (mut node, mut last) = (old - 1, new - 1);
    while node & 1 == 1 {
        node >>= 1;
        last >>= 1;
    }
    let (mut before, mut after) = (seed, seed);
    for step in steps {
        if last == 0 {
            return Err(ProofError::Length);
        }
        if node & 1 == 1 || node == last {
            before = node_hash(step, &before);
            after = node_hash(step, &after);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            after = node_hash(&after, step);
        }
        node >>= 1;
        last >>= 1;
    }
    match (last, before == *old_root && after == *new_root) {
        (1.., _) => Err(ProofError::Length),
        (0, true) => Ok(()),
        (0, false) => Err(ProofError::Root),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    use proptest::prelude::*;

    fn leaves(count: u64) -> Vec<Hash> {
        (0..count).map(|at| leaf_hash(&at.to_be_bytes())).collect()
    }

    #[test]
    fn every_proof_up_to_65_leaves_holds_and_no_other_place() {
        let tree = Tree::new(leaves(65));
        let mut frontier = Frontier::new();
        assert_eq!(frontier.root(), tree.root(0));
        for size in 1..=65u64 {
            frontier.push(tree.levels[0][size as usize - 1]);
            let root = tree.root(size);
            assert_eq!(frontier.root(), root, "size {size}");
            for index in 0..size {
                let path = tree.inclusion(index, size).unwrap();
                let leaf = &tree.levels[0][index as usize];
                assert_eq!(verify_inclusion(leaf, index, size, &path, &root), Ok(()));
                assert!(verify_inclusion(leaf, (index + 1) % (size + 1), size, &path, &root).is_err());
                let longer = [path.as_slice(), &[root]].concat();
                assert!(verify_inclusion(leaf, index, size, &longer, &root).is_err());
                if let Some((_, shorter)) = path.split_last() {
                    assert!(verify_inclusion(leaf, index, size, shorter, &root).is_err());
                }
            }
            for old in 1..=size {
                let path = tree.consistency(old, size).unwrap();
                assert_eq!(verify_consistency(old, &tree.root(old), size, &root, &path), Ok(()), "{old} to {size}");
                assert!(verify_consistency(old, &empty_root(), size, &root, &path).is_err());
            }
        }
        assert!(tree.inclusion(65, 65).is_none() && tree.consistency(0, 5).is_none());
    }

    /// All perfect nodes of a tree, each found by level and index alone: every subtree made from its own leaves.
    fn kept(leaves: &[Hash]) -> impl FnMut(u32, u64) -> Result<Hash, (u32, u64)> {
        let mut nodes: HashMap<(u32, u64), Hash> = HashMap::new();
        for (index, leaf) in leaves.iter().enumerate() {
            let (mut level, mut index) = (0, index as u64);
            nodes.insert((level, index), *leaf);
            while index & 1 == 1 {
                let parent = node_hash(&nodes[&(level, index - 1)], &nodes[&(level, index)]);
                (level, index) = (level + 1, index >> 1);
                nodes.insert((level, index), parent);
            }
        }
        move |level, index| nodes.get(&(level, index)).copied().ok_or((level, index))
    }

    #[test]
    fn nodes_from_elsewhere_give_the_same_proofs() {
        let tree = Tree::new(leaves(130));
        let mut node = kept(&tree.levels[0]);
        for size in 0..=130 {
            assert_eq!(root(size, &mut node), Ok(tree.root(size)));
            for other in 0..=size + 1 {
                assert_eq!(inclusion(other, size, &mut node), Ok(tree.inclusion(other, size)));
                assert_eq!(consistency(other, size, &mut node), Ok(tree.consistency(other, size)));
            }
        }
        assert_eq!((tree.inclusion(0, 131), tree.consistency(1, 131)), (None, None));
    }

    #[test]
    fn a_missing_node_is_an_error_of_the_source() {
        let tree = Tree::new(leaves(100));
        for missing in 0..100 {
            let mut node = |level: u32, index: u64| {
                if level == 0 && index == missing { Err(index) } else { tree.nodes()(level, index).map_err(|_| 0) }
            };
            for other in 1..=100 {
                let _ = (root(other, &mut node), inclusion(other, 100, &mut node), consistency(other, 100, &mut node));
            }
            assert_eq!(inclusion(missing ^ 1, 100, node), Err(missing));
        }
    }

    proptest! {
        /// Only nodes within the tree are asked for, and few of them, at any size.
        #[test]
        fn few_nodes_are_read(size in 1..=u64::MAX, bits in 1..64u32, other: u64) {
            let size = (size >> (64 - bits)).max(1);
            let other = other % size;
            let most = 2 * u64::from(size.ilog2()) + 2;
            for what in 0..3 {
                let mut asked = 0;
                let node = |level: u32, index: u64| {
                    asked += 1;
                    let end = (index + 1).checked_shl(level).filter(|end| *end <= size && end >> level == index + 1);
                    end.map(|_| Hash::of(&[&level.to_be_bytes(), &index.to_be_bytes()])).ok_or((level, index))
                };
                let read = match what {
                    0 => root(size, node).map(|_| ()),
                    1 => inclusion(other, size, node).map(|_| ()),
                    _ => consistency(other, size, node).map(|_| ()),
                };
                prop_assert_eq!(read, Ok(()));
                prop_assert!(asked <= most, "{asked} of {most} for {other} of {size}");
            }
        }

        /// Sizes beyond what every pair can be tried of.
        #[test]
        fn large_trees_prove_the_same(size in 131..5000u64, other: u64, old: u64) {
            let (other, old) = (other % size, old % size + 1);
            let tree = Tree::new(leaves(size));
            let mut frontier = Frontier::new();
            let roots: Vec<Hash> = tree.levels[0].iter().map(|leaf| { frontier.push(*leaf); frontier.root() }).collect();
            let mut node = kept(&tree.levels[0]);
            let root_of = |size: u64| roots[size as usize - 1];
            prop_assert_eq!(root(size, &mut node), Ok(root_of(size)));
            let path = inclusion(other, size, &mut node).unwrap();
            prop_assert_eq!(&path, &tree.inclusion(other, size));
            prop_assert_eq!(verify_inclusion(&tree.levels[0][other as usize], other, size, &path.unwrap(), &root_of(size)), Ok(()));
            let path = consistency(old, size, &mut node).unwrap();
            prop_assert_eq!(&path, &tree.consistency(old, size));
            prop_assert_eq!(verify_consistency(old, &root_of(old), size, &root_of(size), &path.unwrap()), Ok(()));
        }

        #[test]
        fn proofs_never_panic(index: u64, size: u64, old: u64, path in proptest::collection::vec(any::<[u8; 32]>(), 0..70)) {
            let path: Vec<Hash> = path.into_iter().map(Hash).collect();
            prop_assert!(verify_inclusion(&empty_root(), index, size, &path, &empty_root()).is_err());
            prop_assert!(verify_consistency(old, &empty_root(), size, &node_hash(&empty_root(), &empty_root()), &path).is_err());
        }
    }
}
