//! `lotline keys`: the public keys of this organisation.

use lotline_schema::Origin;
use lotline_schema::id::{hex, thumbprint};
use lotline_schema::note;
use lotline_schema::org::Role;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::answer::{Answer, Failure};
use crate::desk::Desk;

/// What to do with keys.
#[derive(clap::Subcommand, Serialize, Deserialize, Clone, Debug)]
pub enum Verb {
    /// Show identity, six words, and the public key of each role.
    Show,
}

/// Does it.
pub fn run(desk: &Desk, verb: Verb) -> Result<Answer, Failure> {
    let Verb::Show = verb;
    let snapshot = desk.handle.snapshot();
    let org = &snapshot.orgs[&snapshot.party];
    let mut text = format!("{}\n  identity   {}\n  six words  {}\n", org.name(), snapshot.party, snapshot.party.six_words());
    let mut keys = serde_json::Map::new();
    for role in Role::ALL {
        if let Some(key) = org.key(role) {
            text.push_str(&format!("  {:<10} {}\n", role.name(), hex(key.as_bytes())));
            keys.insert(role.name().into(), json!({ "public": hex(key.as_bytes()), "thumbprint": thumbprint(key).to_string() }));
        }
    }
    let log = org.key(Role::Log).map(|key| note::vkey(&Origin::org(snapshot.party).to_string(), key));
    text.push_str("The root key is in your recovery kit, not on this computer.");
    Ok(Answer::new(
        text,
        json!({ "name": org.name(), "identity": snapshot.party.to_string(), "six_words": snapshot.party.six_words(), "keys": keys, "org_vkey": log }),
    ))
}
