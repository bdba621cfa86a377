//! What a command answers: words for people, the same as JSON for programs, and an exit code.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Version of every JSON answer; it grows when a field changes its meaning or goes.
pub const SCHEMA_VERSION: u32 = 1;

/// Exit codes (`docs/operating.md` has the table).
pub mod exit {
    /// Failed.
    pub const FAILED: u8 = 1;
    /// The command line is wrong.
    pub const USAGE: u8 = 2;
    /// The sharing rules say no.
    pub const REFUSED: u8 = 3;
    /// Something was altered.
    pub const ALTERED: u8 = 4;
    /// There is no such thing.
    pub const NOT_FOUND: u8 = 5;
    /// Somebody else is using the home.
    pub const BUSY: u8 = 6;
    /// Not a file we can read.
    pub const UNREADABLE: u8 = 11;
}

/// What came out of a command.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Answer {
    /// For people.
    pub text: String,
    /// For programs.
    pub json: Value,
    /// 0, or what `verify` and `audit` found.
    pub exit: u8,
}

impl Answer {
    /// A good answer.
    pub fn new(text: impl Into<String>, json: Value) -> Answer {
        Answer { text: text.into(), json, exit: 0 }
    }

    /// The JSON as printed.
    pub fn to_json(&self) -> Value {
        let mut json = json!({ "schema_version": SCHEMA_VERSION, "ok": self.exit == 0 });
        merge(&mut json, &self.json);
        json
    }
}

/// Why a command did not do what was asked, and what to do about it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Failure {
    /// The exit code.
    pub exit: u8,
    /// What happened; lower case, no full stop.
    pub what: String,
    /// The way out.
    pub hint: Option<String>,
}

impl Failure {
    /// A plain failure.
    pub fn new(what: impl ToString) -> Failure {
        Failure { exit: exit::FAILED, what: what.to_string(), hint: None }
    }

    /// With another exit code.
    pub fn exit(self, exit: u8) -> Failure {
        Failure { exit, ..self }
    }

    /// With a way out.
    pub fn hint(self, hint: impl ToString) -> Failure {
        Failure { hint: Some(hint.to_string()), ..self }
    }

    /// The JSON as printed.
    pub fn to_json(&self) -> Value {
        json!({ "schema_version": SCHEMA_VERSION, "ok": false, "error": self.what, "hint": self.hint, "exit": self.exit })
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "error: {}", self.what)?;
        match &self.hint {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

fn merge(into: &mut Value, from: &Value) {
    if let (Some(into), Some(from)) = (into.as_object_mut(), from.as_object()) {
        into.extend(from.iter().map(|(key, value)| (key.clone(), value.clone())));
    }
}

macro_rules! failure_from {
    ($($error:ty),+) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Failure {
                Failure::new(error)
            }
        })+
    };
}

failure_from!(std::io::Error, crate::feeds::StateError);

impl From<crate::store::StoreError> for Failure {
    fn from(error: crate::store::StoreError) -> Failure {
        use crate::store::StoreError;
        // What the system said belongs to it.
        let why = std::error::Error::source(&error).map_or(String::new(), |source| format!(": {source}"));
        let failure = Failure::new(format!("{error}{why}"));
        match error {
            StoreError::Locked | StoreError::Copying => failure.exit(exit::BUSY),
            StoreError::NoNode { .. } | StoreError::OutsideTree { .. } => failure.exit(exit::ALTERED),
            StoreError::Rebuilding => {
                failure.hint("`lotline status` says whether to wait, or to make room on the disk and restart the node")
            }
            _ => failure,
        }
    }
}

impl From<crate::clock::Jumped> for Failure {
    fn from(error: crate::clock::Jumped) -> Failure {
        Failure::new(error).exit(exit::REFUSED).hint(crate::clock::CONFIRM)
    }
}

impl From<crate::config::HomeError> for Failure {
    fn from(error: crate::config::HomeError) -> Failure {
        use crate::config::HomeError;
        let failure = Failure::new(&error);
        match error {
            HomeError::Missing(_) => failure.exit(exit::NOT_FOUND).hint("set one up with `lotline init`, or name another with --home"),
            HomeError::Exists(_) => failure.hint("use it as it is, or give another folder with --home"),
            HomeError::Nowhere | HomeError::File { .. } | HomeError::Config { .. } => failure,
        }
    }
}

impl From<crate::feeds::FeedError> for Failure {
    fn from(error: crate::feeds::FeedError) -> Failure {
        use crate::feeds::forget::ForgetError;
        use crate::feeds::{DelegateError, FeedError, LetterError, ListError, ReleaseError, WrongRoot};
        let failure = Failure::new(&error);
        match error {
            FeedError::Conflict { .. } => {
                failure.hint("`--supersede` replaces it (the old one stays provable), `--sample N` publishes another sample beside it")
            }
            FeedError::TooLarge { .. } => failure.hint("split the file by serial and give each part a `--sample`"),
            FeedError::NothingToSupersede(_) => failure.hint("leave out --supersede"),
            FeedError::NoPartner(_) => failure.exit(exit::NOT_FOUND).hint("`lotline partner list` shows the names"),
            FeedError::NameTaken(_) => failure.hint("give another name with --as"),
            FeedError::NameInRules(_) => {
                failure.exit(exit::REFUSED).hint("give another name with --as, or apply rules without this one first")
            }
            FeedError::PeerTaken { .. } => {
                failure.hint("ask both by telephone whose key it is; an entry that is wrong goes with `lotline partner remove`")
            }
            FeedError::Restored(_) => {
                failure.hint("look at `lotline partner list` and `lotline policy show`, then `lotline restore --confirm`")
            }
            FeedError::Root(WrongRoot::NobodyNamed) => {
                failure.hint("while the recovery kit is at hand: lotline keys successor --kit FILE -o SECOND-KIT")
            }
            FeedError::Release(ReleaseError::Ended(_)) => failure.hint("`lotline keys signer list` shows who releases records"),
            FeedError::Delegate(error) => match error {
                DelegateError::NotAsked { owner, feed } => failure
                    .exit(exit::REFUSED)
                    .hint(format!("lotline keys request-delegation --of {owner} --feed {feed} -o request.lotline")),
                DelegateError::NotStated { owner, .. } => {
                    failure.exit(exit::REFUSED).hint(format!("give {owner} your request, and be connected once after it was granted"))
                }
                DelegateError::Over { owner, feed, .. } => failure
                    .exit(exit::REFUSED)
                    .hint(format!("ask anew: lotline keys request-delegation --of {owner} --feed {feed} -o request.lotline")),
                DelegateError::Theirs { .. } => failure.exit(exit::REFUSED).hint("give your records a feed of another name"),
                DelegateError::Ours(_) => {
                    failure.exit(exit::REFUSED).hint("a delegated feed needs a name of its own: let them ask for another")
                }
                DelegateError::NoDelegation(_) => failure.exit(exit::NOT_FOUND).hint("`lotline feeds` shows them"),
            },
            FeedError::Forget(ForgetError::Theirs { owner, .. }) => {
                failure.exit(exit::REFUSED).hint(format!("it is {owner}'s to forget: ask there"))
            }
            FeedError::List(why) => match why {
                ListError::Members(_) => failure.exit(exit::ALTERED),
                ListError::Endless => failure.hint("the association adds a line like until = 2028-01-01 to its list and signs it again"),
                ListError::Ended | ListError::Older { .. } => failure.hint("ask the association for its newest list"),
                ListError::Twice(_) => failure.hint("keep neither before the association has explained it"),
                ListError::NameTaken(_) => failure.hint("give another name with --as"),
                ListError::Known(known) => failure.hint(format!("keep it with --as {known}")),
                ListError::Unknown(_) => failure.exit(exit::NOT_FOUND).hint("`lotline members list` shows the names"),
            },
            FeedError::Letter(LetterError::Unasked) => failure.exit(exit::NOT_FOUND),
            FeedError::Letter(_) => failure.exit(exit::REFUSED),
            FeedError::Root(_) => failure.hint("`lotline keys show --kit FILE` says whose kit a file is"),
            FeedError::Outdated(role) => {
                failure.hint(format!("take the recovery kit and name a new one: lotline keys rotate {role} --kit FILE"))
            }
            FeedError::Moving => failure.hint("`lotline status` says who does not know it; the same command with --now uses it at once"),
            FeedError::Store(error) => error.into(),
            FeedError::Key(error) => error.into(),
            _ => failure,
        }
    }
}

impl From<crate::keys::KeyError> for Failure {
    fn from(error: crate::keys::KeyError) -> Failure {
        use crate::keys::KeyError;
        let failure = Failure::new(&error);
        match error {
            KeyError::Kit(_) => failure.exit(exit::UNREADABLE),
            KeyError::Words(_) => failure.exit(exit::USAGE).hint("type them again, in the order they were written down"),
            KeyError::Read { .. } | KeyError::Write { .. } | KeyError::Exposed(_) | KeyError::Form(_) => failure,
        }
    }
}

impl From<crate::service::ServiceError> for Failure {
    fn from(error: crate::service::ServiceError) -> Failure {
        use crate::service::ServiceError;
        match error {
            ServiceError::Home(error) => error.into(),
            ServiceError::Feed(error) => error.into(),
            ServiceError::Key(error) => error.into(),
            ServiceError::Stopped => Failure::new(error).exit(exit::BUSY),
        }
    }
}
