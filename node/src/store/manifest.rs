//! The list of the journal's segments, a small text file that is always replaced as a whole.
//!
//! ```text
//! lotline journal
//! format 1
//! store 00112233445566778899aabbccddeeff
//! segment 1 33554400
//! segment 2 open
//! crc32c 8a9136aa
//! ```
//!
//! A closed segment is listed with its end; only the last one is open. A segment is listed before its first commit.
//!
//! Once something was forgotten the format is 2 and a line `forgets 7` or `forgets none` follows the store: segment 7 may
//! begin with orders that are not carried out yet in the segments before it. A program that knows format 1 only would
//! take in again what was forgotten, so it refuses such a store.

use std::{fs, io, path::Path};

use super::{
    FORMAT,
    disk::replace,
    error::{StoreError, io_error},
};

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Manifest {
    /// Random name of this store, made with it.
    pub(super) store: [u8; 16],
    /// What is to be forgotten still.
    pub(super) forgets: Forgets,
    /// In order; never empty.
    pub(super) segments: Vec<Listed>,
}

/// How far the store is with forgetting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Forgets {
    /// Nothing was ever forgotten here.
    Never,
    /// Everything that was ordered is done.
    Done,
    /// Orders from this segment on may not be carried out in those before it.
    Pending(u32),
}

/// One segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) number: u32,
    /// Where its frames end; `None` while it is the one written to.
    pub(super) end: Option<u32>,
}

impl Manifest {
    /// Reads the file; `None` when there is none.
    pub(super) fn load(path: &Path) -> Result<Option<Manifest>, StoreError> {
        let text = match fs::read(path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(io_error("read", path)(e)),
        };
        let wrong = |what: &str| StoreError::Manifest { path: path.to_owned(), what: what.to_owned() };
        let (listed, sum) = text.rsplit_once("crc32c ").ok_or_else(|| wrong("its end is missing"))?;
        if sum.strip_suffix('\n') != Some(&*format!("{:08x}", crc32c::crc32c(listed.as_bytes()))) {
            return Err(wrong("its checksum does not match"));
        }
        let mut lines = listed.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        if lines.next().as_deref() != Some(&["lotline", "journal"]) {
            return Err(wrong("it does not begin with `lotline journal`"));
        }
        let parsed = (|| {
            let format: u32 = lines.next()?.get(1)?.parse().ok()?;
            if format > FORMAT {
                return Some(Err(StoreError::Newer(format)));
            }
            let store = u128::from_str_radix(lines.next()?.get(1)?, 16).ok()?.to_be_bytes();
            let forgets = match format {
                ..=1 => Forgets::Never,
                _ => Forgets::parse(&lines.next()?)?,
            };
            let segments = lines.map(|line| Listed::parse(&line)).collect::<Option<Vec<_>>>()?;
            let ordered = segments.windows(2).all(|w| w[0].number < w[1].number && w[0].end.is_some());
            (ordered && segments.last()?.end.is_none()).then_some(Ok(Manifest { store, forgets, segments }))
        })();
        parsed.unwrap_or_else(|| Err(wrong("a line of it is unreadable"))).map(Some)
    }

    /// Replaces the file; it is durable when this returns.
    pub(super) fn save(&self, path: &Path) -> Result<(), StoreError> {
        let (format, forgets) = match self.forgets {
            Forgets::Never => (1, String::new()),
            Forgets::Done => (FORMAT, "forgets none\n".to_owned()),
            Forgets::Pending(segment) => (FORMAT, format!("forgets {segment}\n")),
        };
        let mut text = format!("lotline journal\nformat {format}\nstore {:032x}\n{forgets}", u128::from_be_bytes(self.store));
        for Listed { number, end } in &self.segments {
            let end = end.map_or("open".to_owned(), |end| end.to_string());
            text += &format!("segment {number} {end}\n");
        }
        text += &format!("crc32c {:08x}\n", crc32c::crc32c(text.as_bytes()));
        replace(path, text.as_bytes()).map_err(io_error("replace", path))
    }
}

impl Forgets {
    fn parse(line: &[&str]) -> Option<Forgets> {
        match line {
            ["forgets", "none"] => Some(Forgets::Done),
            ["forgets", segment] => Some(Forgets::Pending(segment.parse().ok()?)),
            _ => None,
        }
    }
}

impl Listed {
    fn parse(line: &[&str]) -> Option<Listed> {
        let [_, number, end] = line else { return None };
        let end = if *end == "open" { None } else { Some(end.parse().ok()?) };
        Some(Listed { number: number.parse().ok()?, end })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_changed_byte_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("manifest");
        assert_eq!(Manifest::load(&path).unwrap(), None);
        for forgets in [Forgets::Never, Forgets::Done, Forgets::Pending(2)] {
            let segments = vec![Listed { number: 1, end: Some(640) }, Listed { number: 2, end: None }];
            let manifest = Manifest { store: [9; 16], forgets, segments };
            manifest.save(&path).unwrap();
            assert_eq!(Manifest::load(&path).unwrap(), Some(manifest));
            let bytes = fs::read(&path).unwrap();
            for i in 0..bytes.len() {
                let mut changed = bytes.clone();
                changed[i] ^= 1;
                fs::write(&path, changed).unwrap();
                assert!(Manifest::load(&path).is_err(), "byte {i}");
            }
        }
    }
}
