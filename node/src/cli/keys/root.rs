//! The root key, lent for one command: from the recovery kit with its passphrase, or from its 24 words.

use std::io::{IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::answer::{Answer, Failure, exit};
use crate::cli::ask_secret;
use crate::cli::input;
use crate::keys::kit::{KIT_BYTES_MAX, Kit, Secret};
use crate::platform;

/// Where the root key comes from.
#[derive(clap::Args, Serialize, Deserialize, Clone, Debug)]
pub struct Root {
    /// The recovery kit.
    #[arg(long, value_name = "FILE", required_unless_present = "words", conflicts_with = "words")]
    pub kit: Option<PathBuf>,
    /// Type the 24 words of the key instead (they are not shown; without a terminal: from standard input).
    #[arg(long)]
    pub words: bool,
    /// A file whose first line is the kit's passphrase (else it is asked for).
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
}

impl Root {
    /// The key itself.
    pub fn open(&self) -> Result<Secret, Failure> {
        match &self.kit {
            Some(file) => open_kit(file, self.passphrase_file.as_deref()),
            None => Ok(Secret::from_words(&typed_words()?)?),
        }
    }
}

/// Reads a kit, and what it says of itself.
pub fn read_kit(file: &Path) -> Result<Kit, Failure> {
    let failed = |why: &dyn std::fmt::Display| Failure::new(format!("cannot read `{}`: {why}", file.display()));
    let text = String::from_utf8(input::read(file, KIT_BYTES_MAX, "kit")?).map_err(|why| failed(&why).exit(exit::UNREADABLE))?;
    Kit::read(&text)
        .map_err(|why| Failure::from(why).hint("`lotline init` says where it wrote the recovery kit; --words takes its 24 words"))
}

/// Opens a kit with its passphrase.
pub fn open_kit(file: &Path, passphrase_file: Option<&Path>) -> Result<Secret, Failure> {
    let kit = read_kit(file)?;
    let passphrase = passphrase_once(passphrase_file, &format!("Passphrase of the kit of {}", crate::certificate::harmless(&kit.name)))?;
    Ok(kit.open(&passphrase)?)
}

/// A passphrase that opens something: a file's first line, or asked for once.
pub fn passphrase_once(file: Option<&Path>, question: &str) -> Result<Zeroizing<String>, Failure> {
    let Some(file) = file else {
        let missing = || Failure::new("--passphrase-file is missing and there is no terminal to ask on").exit(exit::USAGE);
        return Ok(Zeroizing::new(ask_secret(question).ok_or_else(missing)?));
    };
    let text = std::fs::read_to_string(file).map_err(|why| Failure::new(format!("cannot read `{}`: {why}", file.display())))?;
    let text = Zeroizing::new(text);
    Ok(Zeroizing::new(text.lines().next().unwrap_or_default().to_owned()))
}

fn typed_words() -> Result<Zeroizing<String>, Failure> {
    const TYPED_BYTES_MAX: u64 = 4096;
    if std::io::stdin().is_terminal() {
        let typed = ask_secret("The 24 words, with spaces between").ok_or_else(|| Failure::new("nothing was typed").exit(exit::USAGE))?;
        return Ok(Zeroizing::new(typed));
    }
    let mut typed = Zeroizing::new(String::with_capacity(512));
    std::io::stdin().take(TYPED_BYTES_MAX).read_to_string(&mut typed)?;
    Ok(typed)
}

/// Writes a kit where none is yet, and its picture.
pub fn write_kit(kit: &Kit, file: &Path, qr: Option<&Path>) -> Result<(), Failure> {
    refuse_existing(file)?;
    let failed = |file: &Path, why: &std::io::Error| Failure::new(format!("cannot write `{}`: {why}", file.display()));
    platform::write_secret(file, kit.to_text().as_bytes()).map_err(|why| failed(file, &why).hint("try another place"))?;
    if let Some(qr) = qr {
        platform::write_secret(qr, kit.picture().to_svg().as_bytes()).map_err(|why| failed(qr, &why))?;
    }
    Ok(())
}

/// A kit is never overwritten.
pub fn refuse_existing(file: &Path) -> Result<(), Failure> {
    match file.exists() {
        true => Err(Failure::new(format!("`{}` exists already; a kit is never overwritten", file.display())).hint("give another file")),
        false => Ok(()),
    }
}

/// An answer about what the org feed says now.
pub fn stated(text: String, json: serde_json::Value) -> Answer {
    Answer::new(format!("{text}\nPartners learn it with your org feed, at their next contact."), json)
}
