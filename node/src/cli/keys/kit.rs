//! `lotline keys show --kit` and `keys words`: about a kit alone, without a home.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::root::{open_kit, read_kit};
use crate::answer::{Answer, Failure};
use crate::certificate::harmless;
use crate::platform;

/// Flags of `keys show`.
#[derive(clap::Args, Serialize, Deserialize, Clone, Debug)]
pub struct ShowArgs {
    /// Say whose kit this file is; needs no passphrase and no home.
    #[arg(long, value_name = "FILE")]
    kit: Option<PathBuf>,
    /// Write the kit's sealed key as a QR code (SVG).
    #[arg(long, value_name = "FILE", requires = "kit")]
    qr: Option<PathBuf>,
}

/// Flags of `keys words`.
#[derive(clap::Args, Serialize, Deserialize, Clone, Debug)]
pub struct WordsArgs {
    /// The kit.
    #[arg(long, value_name = "FILE")]
    kit: PathBuf,
    /// A file whose first line is the kit's passphrase (else it is asked for).
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

/// Whose kit a file is; none when the question is about a home.
pub fn show(args: &ShowArgs) -> Option<Result<Answer, Failure>> {
    let file = args.kit.as_ref()?;
    Some(read_kit(file).and_then(|kit| {
        if let Some(qr) = &args.qr {
            let why = |why: std::io::Error| Failure::new(format!("cannot write `{}`: {why}", qr.display()));
            platform::write_secret(qr, kit.picture().to_svg().as_bytes()).map_err(why)?;
        }
        let key = kit.key.map_or_else(|| "not said (a kit of version 0.1)".to_owned(), |key| key.to_string());
        let text = format!(
            "{}\n  identity   {}\n  six words  {}\n  holds      the {} key, sealed with a passphrase\n  key        {key}\n\
             This is what the file says; only its passphrase shows whether it is so.",
            harmless(&kit.name),
            kit.party,
            kit.party.six_words(),
            kit.holds.name(),
        );
        let json = json!({
            "name": kit.name, "identity": kit.party.to_string(), "six_words": kit.party.six_words(), "holds": kit.holds.name(),
            "key": kit.key.map(|key| key.to_string()), "qr": args.qr,
        });
        Ok(Answer::new(text, json))
    }))
}

/// The key in words: the one command that prints a secret, because it was asked to.
pub fn words(args: &WordsArgs) -> Result<Answer, Failure> {
    let secret = open_kit(&args.kit, args.passphrase_file.as_deref())?;
    let words = secret.words();
    let numbered: Vec<String> = words.split(' ').enumerate().map(|(at, word)| format!("{:>3} {word:<10}", at + 1)).collect();
    let lines: Vec<String> = numbered.chunks(4).map(|row| row.concat().trim_end().to_owned()).collect();
    eprintln!("These words ARE the key: write them down by hand, on paper, and clear this screen. They need no passphrase.");
    Ok(Answer::new(lines.join("\n"), json!({ "words": words.split(' ').collect::<Vec<_>>(), "key": secret.signer().kid().to_string() })))
}
