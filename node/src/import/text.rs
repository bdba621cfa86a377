//! The file as lines of text: encoding, line ends, hash and progress. Knows nothing of tables.
//!
//! Decoded as it streams: memory holds one chunk and the line being read, never the file.

use std::io::{self, Read};

use encoding_rs::{Decoder, DecoderResult, Encoding, UTF_8, WINDOWS_1252};
use lotline_schema::Hash;
use sha2::{Digest, Sha256};

use super::ImportError;

/// Bytes read from the file at once.
const CHUNK_BYTES: usize = 64 * 1024;
/// Decoded text looked at before the first row is read: enough for the header and some pieces of hundreds of values.
const SAMPLE_BYTES: usize = 512 * 1024;
/// A longer line is no row of a table; without a bound a quote left open would pull the whole file into memory.
pub(super) const LINE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A file being read, line by line.
pub(super) struct Text<'a> {
    source: Box<dyn Read + 'a>,
    progress: Box<dyn FnMut(u64) + 'a>,
    hash: Sha256,
    bytes_done: u64,
    /// Read, but not decoded yet.
    raw: Vec<u8>,
    /// None while everything so far is ASCII: the first other byte decides between UTF-8 and Windows-1252.
    decoder: Option<Decoder>,
    text: String,
    /// Where in `text` the next line starts, and how far a line end was looked for.
    from: usize,
    searched: usize,
    line_end: char,
    line: u64,
    ended: bool,
    unfinished: bool,
}

impl<'a> Text<'a> {
    /// Reads bytes in this encoding, or in the one they show.
    pub(super) fn of(
        source: impl Read + 'a,
        encoding: Option<&'static Encoding>,
        progress: impl FnMut(u64) + 'a,
    ) -> Result<Text<'a>, ImportError> {
        let mut text = Text {
            source: Box::new(source),
            progress: Box::new(progress),
            hash: Sha256::new(),
            bytes_done: 0,
            raw: Vec::new(),
            decoder: None,
            text: String::new(),
            from: 0,
            searched: 0,
            line_end: '\n',
            line: 0,
            ended: false,
            unfinished: false,
        };
        while text.raw.len() < 8 && !text.ended {
            text.pull()?;
        }
        refuse_other_formats(&text.raw)?;
        let marked = Encoding::for_bom(&text.raw);
        if let Some((_, bytes)) = marked {
            text.raw.drain(..bytes);
        }
        text.decoder = encoding.or(marked.map(|(of, _)| of)).map(Encoding::new_decoder_without_bom_handling);
        text.decode()?;
        Ok(text)
    }

    /// The first part of the text, and whether that is all of it. Ask before the first line: it settles the line ends.
    pub(super) fn sample(&mut self) -> Result<(&str, bool), ImportError> {
        while self.text.len() < SAMPLE_BYTES && !self.ended {
            self.fill()?;
        }
        let odd = |c: char| matches!(c, '\0'..='\u{8}' | '\u{e}'..='\u{19}' | '\u{1b}'..='\u{1f}');
        if self.text.contains(odd) {
            return Err(self.encoding_fault("holds control characters: it is no text file"));
        }
        // Old Macintosh programs end a line with CR alone.
        if self.text.contains('\r') && !self.text.contains('\n') {
            self.line_end = '\r';
        }
        Ok((&self.text, self.ended))
    }

    /// The next line without its end; false after the last.
    pub(super) fn line(&mut self, into: &mut String) -> Result<bool, ImportError> {
        loop {
            if let Some(at) = self.text[self.searched..].find(self.line_end) {
                let end = self.searched + at;
                self.deliver(end, into);
                self.from = end + 1;
                self.searched = self.from;
                return Ok(true);
            }
            self.searched = self.text.len();
            if self.ended {
                let last = self.text[self.from..].trim_end_matches('\u{1a}').len();
                if last == 0 {
                    return Ok(false);
                }
                self.unfinished = true;
                self.deliver(self.from + last, into);
                self.from = self.text.len();
                return Ok(true);
            }
            if self.text.len() - self.from > LINE_BYTES_MAX {
                return Err(ImportError::Dialect {
                    what: format!("line {} is longer than {} MiB", self.line + 1, LINE_BYTES_MAX >> 20),
                    hint: "a table has one line a row; export it as CSV again".into(),
                });
            }
            self.fill()?;
        }
    }

    fn deliver(&mut self, end: usize, into: &mut String) {
        let line = &self.text[self.from..end];
        into.push_str(line.strip_suffix('\r').unwrap_or(line));
        self.line += 1;
    }

    /// The number of the line given last, from 1.
    pub(super) fn line_number(&self) -> u64 {
        self.line
    }

    /// Whether the last line of the file came without a line end.
    pub(super) fn unfinished(&self) -> bool {
        self.unfinished
    }

    /// The encoding, as far as it is known.
    pub(super) fn encoding(&self) -> &'static str {
        self.decoder.as_ref().map_or("ASCII", |decoder| decoder.encoding().name())
    }

    /// SHA-256 of the bytes read; of the file, once the last line was given.
    pub(super) fn hash(&self) -> Hash {
        Hash(self.hash.clone().finalize().into())
    }

    fn fill(&mut self) -> Result<(), ImportError> {
        self.text.drain(..self.from);
        self.searched -= self.from;
        self.from = 0;
        self.pull()?;
        self.decode()
    }

    fn pull(&mut self) -> Result<(), ImportError> {
        let before = self.raw.len();
        self.raw.resize(before + CHUNK_BYTES, 0);
        let got = loop {
            match self.source.read(&mut self.raw[before..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other.map_err(ImportError::Io)?,
            }
        };
        self.raw.truncate(before + got);
        self.hash.update(&self.raw[before..]);
        self.ended = got == 0;
        self.bytes_done += got as u64;
        (self.progress)(self.bytes_done);
        Ok(())
    }

    fn decode(&mut self) -> Result<(), ImportError> {
        let before = self.text.len();
        if self.decoder.is_none() {
            if let Ok(ascii) = std::str::from_utf8(&self.raw)
                && ascii.is_ascii()
            {
                self.text.push_str(ascii);
                self.raw.clear();
            } else {
                self.decoder = first_other_byte(&self.raw, self.ended).map(Encoding::new_decoder_without_bom_handling);
            }
        }
        if let Some(decoder) = &mut self.decoder {
            loop {
                let room = decoder.max_utf8_buffer_length_without_replacement(self.raw.len()).unwrap_or(CHUNK_BYTES);
                self.text.reserve(room);
                let (result, read) = decoder.decode_to_string_without_replacement(&self.raw, &mut self.text, self.ended);
                self.raw.drain(..read);
                match result {
                    DecoderResult::InputEmpty => break,
                    DecoderResult::OutputFull => {}
                    DecoderResult::Malformed(..) if self.ended && self.raw.is_empty() => {
                        return Err(ImportError::TruncatedInside {
                            row: self.row_reached(),
                            what: "the file ends in the middle of a character".into(),
                        });
                    }
                    DecoderResult::Malformed(..) => {
                        let what = format!("is not valid {} here", decoder.encoding().name());
                        return Err(self.encoding_fault(&what));
                    }
                }
            }
        }
        if self.text[before..].contains('\0') {
            return Err(self.encoding_fault("holds NUL bytes: it is no text, or UTF-16 without its mark"));
        }
        Ok(())
    }

    fn row_reached(&self) -> u64 {
        self.line + 1 + self.text[self.from..].matches('\n').count() as u64
    }

    fn encoding_fault(&self, what: &str) -> ImportError {
        ImportError::Encoding {
            row: self.row_reached(),
            what: what.into(),
            hint: "save it as CSV UTF-8, or name the encoding in a --map file, as in encoding = \"windows-1252\"".into(),
        }
    }
}

/// Decides by the first bytes that are no ASCII; none while they are cut off by the end of the chunk.
fn first_other_byte(raw: &[u8], ended: bool) -> Option<&'static Encoding> {
    let plain = raw.iter().position(|byte| !byte.is_ascii())?;
    match std::str::from_utf8(&raw[plain..]) {
        Ok(_) => Some(UTF_8),
        Err(wrong) if wrong.valid_up_to() > 0 => Some(UTF_8),
        Err(wrong) if wrong.error_len().is_none() && !ended => None,
        Err(_) => Some(WINDOWS_1252),
    }
}

/// People give us the workbook itself: say so, rather than "invalid text".
fn refuse_other_formats(raw: &[u8]) -> Result<(), ImportError> {
    let found = match raw {
        [b'P', b'K', 3, 4, ..] => "an Excel workbook or another ZIP file",
        [0xd0, 0xcf, 0x11, 0xe0, ..] => "an old Excel workbook",
        [b'%', b'P', b'D', b'F', ..] => "a PDF",
        [b'<', b'?', b'x', b'm', b'l', ..] | [0xef, 0xbb, 0xbf, b'<', b'?', b'x', ..] => "XML",
        [b'K', b'0', b'1', b'0', b'0', ..] => "a Q-DAS file",
        _ => return Ok(()),
    };
    Err(ImportError::Encoding {
        row: 1,
        what: format!("is {found}, not a table of text"),
        hint: "save or export the values as CSV UTF-8".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(bytes: &[u8]) -> Result<(Vec<String>, &'static str), ImportError> {
        let mut text = Text::of(bytes, None, |_| ())?;
        text.sample()?;
        let mut lines = Vec::new();
        let mut line = String::new();
        while text.line(&mut line)? {
            lines.push(std::mem::take(&mut line));
        }
        assert_eq!(text.hash(), Hash::of(&[bytes]));
        Ok((lines, text.encoding()))
    }

    #[test]
    fn encodings_and_line_ends_are_recognised() {
        let check = |bytes: &[u8], expected: &[&str], encoding: &str| {
            let (lines, found) = lines(bytes).unwrap();
            assert_eq!((lines.iter().map(String::as_str).collect::<Vec<_>>(), found), (expected.to_vec(), encoding));
        };
        check(b"a\r\nb\n\nc", &["a", "b", "", "c"], "ASCII");
        check(b"a\rb\r", &["a", "b"], "ASCII");
        check("\u{feff}ä\nb".as_bytes(), &["ä", "b"], "UTF-8");
        check("x\nµ".as_bytes(), &["x", "µ"], "UTF-8");
        check(b"Ma\xdf\n\xd8 5", &["Maß", "Ø 5"], "windows-1252");
        check(b"\xff\xfea\0\n\0", &["a"], "UTF-16LE");
        check(b"\xfe\xff\0a\0\n\0\xe4", &["a", "ä"], "UTF-16BE");
        check(b"a\n\x1a", &["a"], "ASCII");
        check(b"", &[], "ASCII");
    }

    #[test]
    fn a_character_across_two_chunks_is_whole() {
        for lead in CHUNK_BYTES - 3..=CHUNK_BYTES {
            let text = format!("{}µm\n", "x".repeat(lead));
            let (lines, encoding) = lines(text.as_bytes()).unwrap();
            assert_eq!((lines[0].as_str(), encoding), (text.trim_end(), "UTF-8"), "{lead}");
        }
    }

    #[test]
    fn what_is_no_text_is_refused() {
        let wrong = |bytes: &[u8]| lines(bytes).unwrap_err();
        assert!(matches!(wrong(b"\xff\xfea\0\n\0\x00\xd8b\0"), ImportError::Encoding { row: 2, .. }), "unpaired surrogate");
        assert!(matches!(wrong(b"\xff\xfea\0\n"), ImportError::TruncatedInside { row: 1, .. }), "half a character");
        assert!(matches!(wrong(b"\x7fELF\x02\x01\x01\0\0\0"), ImportError::Encoding { .. }));
        assert!(matches!(wrong(b"a\0b\0c\0"), ImportError::Encoding { .. }), "UTF-16 without mark");
        assert!(wrong(b"PK\x03\x04...").to_string().contains("Excel"));
        assert!(wrong(b"\xef\xbb\xbf<?xml version").to_string().contains("XML"));
        let mut torn = "ä\nö\n".as_bytes().to_vec();
        torn.push(0xff);
        torn.push(b'x');
        assert!(matches!(wrong(&torn), ImportError::Encoding { row: 3, .. }), "UTF-8 first, something else later");
    }
}
