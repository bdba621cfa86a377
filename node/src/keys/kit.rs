//! Secrets on paper and in files: the recovery kit, the second kit, and every other key sealed with a passphrase.
//!
//! A kit is plain words for people, then the key sealed with age (scrypt), then the same sealed text as a QR code. Its
//! plain words are signed by nobody: they say what to look for, the sealed key decides.

use std::io::{Read as _, Write as _};

use age::secrecy::SecretString;
use lotline_schema::cose::Signer;
use lotline_schema::id::{hex, unhex};
use lotline_schema::{Hash, PartyId};
use zeroize::{Zeroize as _, Zeroizing};

use super::{KeyError, random};

const BEGIN: &str = "-----BEGIN AGE ENCRYPTED FILE-----";
const END: &str = "-----END AGE ENCRYPTED FILE-----";
/// The largest kit or sealed key we read: a kit with its picture has some ten thousand bytes.
pub const KIT_BYTES_MAX: usize = 64 * 1024;

/// A secret key in the hand of its owner, for as long as a command takes. Prints as `(..)`.
pub struct Secret {
    seed: Zeroizing<[u8; 32]>,
    signer: Signer,
}

impl Secret {
    /// A new one.
    pub fn new() -> Secret {
        let mut seed = Zeroizing::new([0u8; 32]);
        random(&mut *seed);
        Secret::from_seed(&seed)
    }

    pub(super) fn from_seed(seed: &[u8; 32]) -> Secret {
        Secret { seed: Zeroizing::new(*seed), signer: Signer::from_seed(seed) }
    }

    /// Signs with it.
    pub fn signer(&self) -> &Signer {
        &self.signer
    }

    pub(super) fn seed(&self) -> &[u8; 32] {
        &self.seed
    }

    /// The key as 24 words of the BIP 39 English list, the last of which holds a checksum.
    pub fn words(&self) -> Zeroizing<String> {
        let mnemonic = bip39::Mnemonic::from_entropy(&*self.seed).expect("32 bytes make 24 words");
        let mut text = Zeroizing::new(String::with_capacity(256));
        for word in mnemonic.words() {
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(word);
        }
        text
    }

    /// From 24 words, in whatever spacing and case they were typed.
    pub fn from_words(text: &str) -> Result<Secret, KeyError> {
        let plain = Zeroizing::new(text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase());
        let mnemonic = bip39::Mnemonic::parse_in_normalized(bip39::Language::English, &plain).map_err(|why| {
            KeyError::Words(match why {
                bip39::Error::UnknownWord(at) => format!("word {} is not in the list", at + 1),
                bip39::Error::BadWordCount(count) => format!("24 words are needed, {count} were given"),
                _ => "a word is wrong, or two are swapped (the checksum does not hold)".into(),
            })
        })?;
        let entropy = Zeroizing::new(mnemonic.to_entropy());
        match <&[u8; 32]>::try_from(&entropy[..]) {
            Ok(seed) => Ok(Secret::from_seed(seed)),
            Err(_) => Err(KeyError::Words(format!("24 words are needed, {} were given", mnemonic.word_count()))),
        }
    }

    /// Sealed with a passphrase: an age file in its text form.
    pub fn seal(&self, passphrase: &str, work_factor: u8) -> Result<String, KeyError> {
        let failed = |why: &dyn std::fmt::Display| KeyError::Kit(why.to_string());
        let mut recipient = age::scrypt::Recipient::new(SecretString::from(passphrase.to_owned()));
        recipient.set_work_factor(work_factor);
        let encryptor = age::Encryptor::with_recipients(std::iter::once(&recipient as &dyn age::Recipient)).map_err(|why| failed(&why))?;
        let mut sealed = Vec::new();
        let armor = age::armor::ArmoredWriter::wrap_output(&mut sealed, age::armor::Format::AsciiArmor).map_err(|why| failed(&why))?;
        let mut writer = encryptor.wrap_output(armor).map_err(|why| failed(&why))?;
        let mut secret = Zeroizing::new(hex(&*self.seed));
        writer.write_all(secret.as_bytes()).map_err(|why| failed(&why))?;
        secret.zeroize();
        writer.finish().and_then(|armor| armor.finish()).map_err(|why| failed(&why))?;
        Ok(String::from_utf8_lossy(&sealed).into_owned())
    }

    /// Opens what [`Secret::seal`] made, wherever it stands in a text.
    pub fn open(text: &str, passphrase: &str) -> Result<Secret, KeyError> {
        let failed = |why: &dyn std::fmt::Display| KeyError::Kit(why.to_string());
        let armor = age::armor::ArmoredReader::new(sealed_part(text)?.as_bytes());
        let decryptor = age::Decryptor::new(armor).map_err(|why| failed(&why))?;
        let identity = age::scrypt::Identity::new(SecretString::from(passphrase.to_owned()));
        let mut reader = decryptor
            .decrypt(std::iter::once(&identity as &dyn age::Identity))
            .map_err(|_| KeyError::Kit("wrong passphrase, or a damaged file".into()))?;
        let mut text = Zeroizing::new(String::with_capacity(128));
        reader.read_to_string(&mut text).map_err(|why| failed(&why))?;
        let bytes = Zeroizing::new(unhex(&text).ok_or_else(|| KeyError::Kit("it holds no key".into()))?);
        let seed: &[u8; 32] = bytes.as_slice().try_into().map_err(|_| KeyError::Kit("it holds no key".into()))?;
        Ok(Secret::from_seed(seed))
    }
}

impl Default for Secret {
    fn default() -> Self {
        Secret::new()
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secret(kid {}, (..))", self.signer.kid().short())
    }
}

/// What a kit is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Holds {
    /// The root key.
    Root,
    /// The key that may take the root's place.
    Successor,
}

impl Holds {
    fn heading(self) -> &'static str {
        match self {
            Holds::Root => "LOTLINE RECOVERY KIT for ",
            Holds::Successor => "LOTLINE SECOND KIT for ",
        }
    }

    fn advice(self) -> &'static str {
        match self {
            Holds::Root => {
                "Keep this file away from the computer that runs Lotline: on a stick in the safe, or printed.\n\
                 With it and its passphrase you can name new keys when the old ones are lost or stolen.\n\
                 Nobody can replace it, and nobody else has a copy."
            }
            Holds::Successor => {
                "Keep this file away from the recovery kit: in another safe, in another building.\n\
                 When the recovery kit is lost, `lotline keys inherit` puts the key in here in its place."
            }
        }
    }

    /// In JSON.
    pub fn name(self) -> &'static str {
        match self {
            Holds::Root => "root",
            Holds::Successor => "successor",
        }
    }
}

/// A kit as written or read, its key still sealed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Kit {
    /// What it says it holds.
    pub holds: Holds,
    /// The organisation, as it calls itself.
    pub name: String,
    /// The organisation.
    pub party: PartyId,
    /// Thumbprint of the sealed key; kits of version 0.1 do not say it.
    pub key: Option<Hash>,
    sealed: String,
}

impl Kit {
    /// Seals a key for an organisation.
    pub fn seal(holds: Holds, name: &str, party: PartyId, secret: &Secret, passphrase: &str, work_factor: u8) -> Result<Kit, KeyError> {
        let sealed = secret.seal(passphrase, work_factor)?;
        Ok(Kit { holds, name: name.to_owned(), party, key: Some(secret.signer().kid()), sealed })
    }

    /// The file.
    pub fn to_text(&self) -> String {
        let key = self.key.map_or(String::new(), |key| format!("key       {key}\n"));
        format!(
            "{}{}\n\n{}\n\nidentity  {}\nsix words {}\n{key}\n{}\n\
             The sealed key above once more, to be read back by a camera. It needs the passphrase all the same.\n\n{}",
            self.holds.heading(),
            self.name,
            self.holds.advice(),
            self.party,
            self.party.six_words(),
            self.sealed,
            self.picture().to_text(),
        )
    }

    /// Reads what a kit says of itself; no passphrase is needed.
    pub fn read(text: &str) -> Result<Kit, KeyError> {
        const OTHER: &str = "this is no Lotline recovery kit";
        let other = || KeyError::Kit(OTHER.into());
        let text = text.trim_start_matches('\u{feff}');
        let heading = text.lines().next().unwrap_or_default();
        let named = |holds: Holds| heading.strip_prefix(holds.heading()).map(|name| (holds, name.to_owned()));
        let (holds, name) = named(Holds::Root).or_else(|| named(Holds::Successor)).ok_or_else(other)?;
        let line = |label: &str| text.lines().find_map(|line| line.strip_prefix(label)).map(str::trim);
        let party = line("identity  ").and_then(|party| party.parse().ok()).ok_or_else(other)?;
        let key = line("key       ").and_then(|key| key.parse().ok());
        Ok(Kit { holds, name, party, key, sealed: sealed_part(text)?.to_owned() })
    }

    /// Opens the sealed key.
    pub fn open(&self, passphrase: &str) -> Result<Secret, KeyError> {
        Secret::open(&self.sealed, passphrase)
    }

    /// The sealed key as a QR code.
    pub fn picture(&self) -> Picture {
        Picture::of(self.sealed.trim_end().as_bytes())
    }
}

/// From the first line of the sealed part to its last; what people wrote around it does not count.
fn sealed_part(text: &str) -> Result<&str, KeyError> {
    let missing = || KeyError::Kit("it holds no sealed key".into());
    let from = text.find(BEGIN).filter(|_| text.len() <= KIT_BYTES_MAX).ok_or_else(missing)?;
    let length = text[from..].find(END).ok_or_else(missing)? + END.len();
    let end = (from + length..text.len()).find(|at| text.as_bytes()[*at] == b'\n').map_or(from + length, |at| at + 1);
    Ok(&text[from..end])
}

/// A QR code.
pub struct Picture {
    dark: Vec<bool>,
    width: usize,
}

/// The light frame that readers of QR codes need, in modules.
const QUIET: usize = 4;

impl Picture {
    /// Of these bytes.
    ///
    /// # Panics
    ///
    /// If there are more than fit (2331).
    pub fn of(bytes: &[u8]) -> Picture {
        let code = qrcode::QrCode::with_error_correction_level(bytes, qrcode::EcLevel::M).expect("a sealed key is far below what fits");
        let width = code.width();
        Picture { dark: code.to_colors().into_iter().map(|color| color == qrcode::Color::Dark).collect(), width }
    }

    fn is_dark(&self, x: usize, y: usize) -> bool {
        let inside = |at: usize| at.checked_sub(QUIET).filter(|at| *at < self.width);
        inside(x).zip(inside(y)).is_some_and(|(x, y)| self.dark[y * self.width + x])
    }

    /// Two rows of modules a line: dark where ink is.
    pub fn to_text(&self) -> String {
        self.lines(|dark| dark)
    }

    /// The same for a terminal, where ink is light.
    pub fn to_terminal(&self) -> String {
        self.lines(|dark| !dark)
    }

    fn lines(&self, ink: impl Fn(bool) -> bool) -> String {
        let size = self.width + 2 * QUIET;
        let mut text = String::new();
        for y in (0..size).step_by(2) {
            let line: String = (0..size)
                .map(|x| match (ink(self.is_dark(x, y)), ink(self.is_dark(x, y + 1))) {
                    (true, true) => '\u{2588}',
                    (true, false) => '\u{2580}',
                    (false, true) => '\u{2584}',
                    (false, false) => ' ',
                })
                .collect();
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    /// For a printer.
    pub fn to_svg(&self) -> String {
        let size = self.width + 2 * QUIET;
        let mut path = String::new();
        for y in 0..size {
            for x in (0..size).filter(|x| self.is_dark(*x, y)) {
                path.push_str(&format!("M{x} {y}h1v1h-1z"));
            }
        }
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {size} {size}\" shape-rendering=\"crispEdges\">\
             <rect width=\"{size}\" height=\"{size}\" fill=\"#fff\"/><path d=\"{path}\" fill=\"#000\"/></svg>\n"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kit(secret: &Secret) -> Kit {
        let party = PartyId::of(&secret.signer().public());
        Kit::seal(Holds::Root, "ACME", party, secret, "correct horse", 2).unwrap()
    }

    #[test]
    fn a_kit_opens_with_its_passphrase_alone() {
        let secret = Secret::new();
        let text = kit(&secret).to_text();
        let read = Kit::read(&text).unwrap();
        assert_eq!((read.holds, read.name.as_str(), read.key), (Holds::Root, "ACME", Some(secret.signer().kid())));
        assert_eq!(read.open("correct horse").unwrap().signer().public(), secret.signer().public());
        assert!(matches!(read.open("wrong horse"), Err(KeyError::Kit(_))));
        assert!(matches!(Kit::read("no kit"), Err(KeyError::Kit(_))));
    }

    #[test]
    fn a_kit_of_the_first_version_opens() {
        let secret = Secret::new();
        let party = PartyId::of(&secret.signer().public());
        let sealed = secret.seal("correct horse", 2).unwrap();
        let text = format!("LOTLINE RECOVERY KIT for ACME\r\n\r\nidentity  {party}\r\nsix words {}\r\n\r\n{sealed}", party.six_words());
        let read = Kit::read(&text).unwrap();
        assert_eq!((read.party, read.key), (party, None));
        assert_eq!(read.open("correct horse").unwrap().signer().kid(), secret.signer().kid());
    }

    #[test]
    fn words_come_back_and_a_slip_is_noticed() {
        let secret = Secret::new();
        let words = secret.words();
        assert_eq!(words.split(' ').count(), 24);
        let typed = format!("  {}\n", words.to_uppercase().replace(' ', "\n "));
        assert_eq!(Secret::from_words(&typed).unwrap().signer().kid(), secret.signer().kid());
        let (first, rest) = words.split_once(' ').unwrap();
        assert!(matches!(Secret::from_words(rest), Err(KeyError::Words(_))));
        assert!(matches!(Secret::from_words(&format!("{first}x {rest}")), Err(KeyError::Words(why)) if why.contains("word 1 ")));
        assert!(matches!(Secret::from_words("abandon abandon abandon"), Err(KeyError::Words(_))));
    }

    #[test]
    fn the_picture_is_the_sealed_key_in_a_light_frame() {
        let picture = kit(&Secret::new()).picture();
        let size = picture.width + 2 * QUIET;
        assert!((0..size).all(|at| !picture.is_dark(at, 0) && !picture.is_dark(0, at) && !picture.is_dark(size - 1, at)));
        // The corner mark of every QR code.
        assert!((0..7).all(|at| picture.is_dark(QUIET + at, QUIET) && picture.is_dark(QUIET, QUIET + at)));
        assert_eq!(picture.to_text().lines().count(), size.div_ceil(2));
        assert!(picture.to_svg().starts_with("<svg "));
    }

    #[test]
    fn secrets_are_wiped_and_never_printed() {
        fn wiped<T: zeroize::ZeroizeOnDrop>() {}
        wiped::<ed25519_dalek::SigningKey>();
        wiped::<Zeroizing<[u8; 32]>>();
        wiped::<bip39::Mnemonic>();
        let secret = Secret::from_seed(&[7; 32]);
        let printed = format!("{secret:?} {:?}", secret.signer());
        assert!(!printed.contains("0707") && printed.contains("(..)"), "{printed}");
    }
}
