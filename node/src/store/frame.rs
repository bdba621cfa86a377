//! The bytes of one commit in a segment, and the search through a segment's bytes. It knows no files.
//!
//! ```text
//! length of body u32 | crc32c of body u32 | entries u32 | crc32c of these 12 bytes u32 | body, padded with zeros to 8
//! ```
//!
//! Both sums start from the store's id, the segment's number and the frame's offset, so a frame is valid at its own
//! place only: neither an old copy elsewhere nor bytes chosen by a partner inside a record pass for one.

use super::entry;

/// Length of the head; frames start at multiples of 8.
pub(super) const HEAD_BYTES: usize = 16;

/// Fills in the head and pads: `bytes` holds room for the head and then the body.
pub(super) fn finish(bytes: &mut Vec<u8>, entries: u32, seed: u32, segment: u32, offset: u32) {
    let len = bytes.len() - HEAD_BYTES;
    bytes.resize(HEAD_BYTES + padded(len), 0);
    let salt = salt(seed, segment, offset);
    let body_sum = crc32c::crc32c_append(salt, &bytes[HEAD_BYTES..]);
    bytes[..4].copy_from_slice(&(len as u32).to_le_bytes());
    bytes[4..8].copy_from_slice(&body_sum.to_le_bytes());
    bytes[8..12].copy_from_slice(&entries.to_le_bytes());
    let head_sum = crc32c::crc32c_append(salt, &bytes[..12]);
    bytes[12..16].copy_from_slice(&head_sum.to_le_bytes());
}

/// Puts another body of the same length into a frame, at the same place.
pub(super) fn rewrite(frame: &mut [u8], body: &[u8], seed: u32, segment: u32, offset: u32) {
    let entries = u32::from_le_bytes([frame[8], frame[9], frame[10], frame[11]]);
    let mut bytes = vec![0; HEAD_BYTES];
    bytes.extend_from_slice(body);
    finish(&mut bytes, entries, seed, segment, offset);
    frame.copy_from_slice(&bytes);
}

/// A head whose sum is right.
#[derive(Clone, Copy)]
pub(super) struct Head {
    salt: u32,
    body_sum: u32,
    /// Length of the body without padding.
    pub(super) len: usize,
}

impl Head {
    pub(super) fn parse(bytes: &[u8], seed: u32, segment: u32, offset: u32) -> Option<Head> {
        let word = |i: usize| bytes.get(i..i + 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        let (len, body_sum, head_sum) = (word(0)? as usize, word(4)?, word(12)?);
        let salt = salt(seed, segment, offset);
        (len > 0 && crc32c::crc32c_append(salt, &bytes[..12]) == head_sum).then_some(Head { salt, body_sum, len })
    }

    /// Length of head, body and padding.
    pub(super) fn frame_bytes(&self) -> usize {
        HEAD_BYTES + padded(self.len)
    }

    /// The body without its padding, if `bytes` (after the head, padding included) is what was written.
    pub(super) fn body<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let whole = bytes.get(..padded(self.len))?;
        (crc32c::crc32c_append(self.salt, whole) == self.body_sum).then_some(&whole[..self.len])
    }
}

/// What a segment's bytes hold.
#[derive(Debug, Default)]
pub(super) struct Scanned {
    /// Where the last good frame ends.
    pub(super) end: u32,
    /// Bad stretches with a good head somewhere after them.
    pub(super) bad: Vec<Bad>,
    /// Bytes other than zero after `end` with no good head after them: a torn write, or damage to the last frame.
    pub(super) tail: Option<Bad>,
}

/// A stretch that is not a frame.
#[derive(Debug, Clone)]
pub(super) struct Bad {
    pub(super) at: u32,
    pub(super) until: u32,
    /// A torn write cannot look like this.
    pub(super) certain: bool,
    pub(super) records: Vec<(u32, u64)>,
}

/// Walks the frames of `bytes` (a segment from its first byte) from offset `from` on; `each` gets offset, end and body.
/// A zero length alone does not end the walk: only zeros up to the end of `bytes` do.
pub(super) fn scan(bytes: &[u8], seed: u32, segment: u32, from: u32, each: &mut dyn FnMut(u32, u32, &[u8])) -> Scanned {
    let mut found = Scanned { end: from, ..Scanned::default() };
    let mut at = from as usize;
    let head_at = |at: usize| Head::parse(bytes.get(at..)?, seed, segment, at as u32);
    loop {
        let head = head_at(at);
        let good = head.and_then(|h| h.body(&bytes[at + HEAD_BYTES..]).map(|body| (h, body)));
        if let Some((head, body)) = good {
            let next = at + head.frame_bytes();
            each(at as u32, next as u32, body);
            at = next;
            found.end = at as u32;
            continue;
        }
        let Some(last) = bytes.get(at..).and_then(|rest| rest.iter().rposition(|b| *b != 0)) else { return found };
        let until = padded(at + last + 1);
        // With a good head its frame's extent is known. Only one frame is ever in flight, so bytes after that extent
        // say that this frame was complete once.
        let extent = (at + head.map_or(8, |h| h.frame_bytes())).min(bytes.len());
        let body = &bytes[(at + HEAD_BYTES).min(extent)..extent];
        let records = if head.is_some() { entry::records(body) } else { Vec::new() };
        match (extent..until).step_by(8).find(|next| head_at(*next).is_some()) {
            Some(next) => {
                found.bad.push(Bad { at: at as u32, until: next as u32, certain: true, records });
                at = next;
            }
            None => {
                let certain = head.is_some() && until > extent;
                let until = until.max(if head.is_some() { extent } else { 0 }) as u32;
                found.tail = Some(Bad { at: at as u32, until, certain, records });
                return found;
            }
        }
    }
}

/// Rounded up to a multiple of 8.
pub(super) fn padded(len: usize) -> usize {
    len.next_multiple_of(8)
}

fn salt(seed: u32, segment: u32, offset: u32) -> u32 {
    let mut place = [0; 8];
    place[..4].copy_from_slice(&segment.to_le_bytes());
    place[4..].copy_from_slice(&offset.to_le_bytes());
    crc32c::crc32c_append(seed, &place)
}
