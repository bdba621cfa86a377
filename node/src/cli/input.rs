//! Reading a file that somebody names: whole, and never more of it than such a file may have.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use crate::answer::{Failure, exit};

/// The file's bytes; `what` says in a refusal what it would have to be ("request", "bundle").
pub(crate) fn read(path: &Path, bytes_max: usize, what: &str) -> Result<Vec<u8>, Failure> {
    let failed = |why: &dyn std::fmt::Display| Failure::new(format!("cannot read `{}`: {why}", path.display())).exit(exit::UNREADABLE);
    let file = File::open(path).map_err(|why| failed(&why).exit(exit::NOT_FOUND))?;
    let mut bytes = Vec::new();
    // What a folder entry says of its length is not asked: a pipe says 0, and a file may grow.
    file.take(bytes_max as u64 + 1).read_to_end(&mut bytes).map_err(|why| failed(&why))?;
    if bytes.len() > bytes_max {
        return Err(failed(&format!("it is larger than any {what} ({})", in_words(bytes_max))));
    }
    Ok(bytes)
}

fn in_words(bytes: usize) -> String {
    match bytes {
        0..0x10_0000 => format!("{} KiB", bytes >> 10),
        0x10_0000..0x4000_0000 => format!("{} MiB", bytes >> 20),
        _ => format!("{} GiB", bytes >> 30),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_to_its_bound_and_not_beyond() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        std::fs::write(&path, [7; 2048]).unwrap();
        assert_eq!(read(&path, 2048, "note").unwrap_or_default(), [7; 2048]);
        let larger = read(&path, 2047, "note").unwrap_err();
        assert!(larger.to_string().ends_with("it is larger than any note (1 KiB)"), "{larger}");
        assert_eq!(read(&folder.path().join("none"), 9, "note").unwrap_err().exit, exit::NOT_FOUND);
    }
}
