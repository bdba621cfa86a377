//! Relays as the program sees them: who may use this one, and how its own places stand.
//!
//! What a relay does is in `net`; here is the list that its owner keeps by hand, and what `lotline status` shows.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::net::{Net, PeerId};
use crate::service::{LinkBoard, Relays};

/// How often the list is looked at, and what is shown is made anew.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// More than an association has members.
const LIST_BYTES_MAX: u64 = 4 << 20;

/// Reads a list of users: a peer id a line, then what you like; empty lines and those that begin with `#` say nothing. A list that is not
/// there is empty.
pub fn users(file: &Path) -> Result<Vec<PeerId>, String> {
    let wrong = |why: String| format!("`{}`: {why}", file.display());
    match std::fs::metadata(file) {
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Ok(about) if about.len() > LIST_BYTES_MAX => return Err(wrong(format!("larger than {} MiB", LIST_BYTES_MAX >> 20))),
        _ => {}
    }
    let text = std::fs::read_to_string(file).map_err(|why| wrong(why.to_string()))?;
    let ids = text.lines().enumerate().filter_map(|(at, line)| Some((at + 1, line.split_whitespace().next()?)));
    let ids = ids.filter(|(_, id)| !id.starts_with('#'));
    ids.map(|(line, id)| id.parse().map_err(|_| wrong(format!("line {line}: `{id}` is not a peer id (`lotline status` shows a node's)"))))
        .collect()
}

/// Keeps the board true, and a relay's list as the file says; a file with a mistake changes nothing.
pub async fn watch(net: Net, board: LinkBoard, list: Option<PathBuf>) {
    let mut known = list.as_deref().map(users);
    loop {
        board.set_relays(Relays { places: net.places().await, load: net.relay_load().await });
        tokio::time::sleep(LOOK_EVERY).await;
        let now = list.as_deref().map(users);
        if now != known {
            match &now {
                Some(Ok(users)) => {
                    net.set_relay_users(users.clone()).await;
                    tracing::info!(users = users.len(), "the list of those who may use this relay has changed");
                }
                Some(Err(why)) => tracing::warn!(why, "the list of those who may use this relay is left as it was"),
                None => {}
            }
            known = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_ids_with_notes_and_a_mistake_is_named_by_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("users");
        assert_eq!(users(&file), Ok(Vec::new()), "no list is an empty one");
        let id = crate::net::peer_id_of(&[7; 32]);
        std::fs::write(&file, format!("# members\n\n  {id} Muster GmbH, paid until May\n{id}\n")).unwrap();
        assert_eq!(users(&file), Ok(vec![id, id]));
        std::fs::write(&file, format!("{id}\nMuster GmbH\n")).unwrap();
        assert!(users(&file).unwrap_err().contains("line 2: `Muster` is not a peer id"));
    }
}
