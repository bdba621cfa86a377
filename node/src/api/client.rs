//! The other end: a command hands its verb to the node that runs on its home.
//!
//! A run file may be left over from a node that was killed, and somebody else's program may have its port by now. So a
//! client first lets the other side prove that it knows this home's token, and only then shows the token and the verb.

use std::time::Duration;

use ureq::Agent;

use super::auth::Keys;
use super::{HEALTH, RunFile, Said, VERB};
use crate::answer::{Answer, Failure};
use crate::cli::HomeVerb;
use crate::config::Home;
use crate::keys::random;

/// How long a node may take to prove itself: it is on this computer.
const PROOF_WITHIN: Duration = Duration::from_secs(5);
/// How long a verb may take: an audit of everything, or a file of many thousand lots.
const ANSWER_WITHIN: Duration = Duration::from_secs(4 * 60 * 60);
/// The largest answer read: every record of a large home as JSON.
const ANSWER_BYTES_MAX: u64 = 1 << 30;

/// Asks the node on this home to do a verb. None when no node answers there.
pub fn ask(home: &Home, verb: &HomeVerb) -> Result<Option<Result<Answer, Failure>>, Failure> {
    let Some((run_file, keys)) = addressed(home) else {
        return Ok(None);
    };
    // Never through a proxy: this is the same computer.
    let agent: Agent = Agent::config_builder().proxy(None).max_redirects(0).http_status_as_error(false).build().into();
    if !proves_itself(&agent, &run_file, &keys) {
        return Ok(None);
    }
    let broke = |why: &dyn std::fmt::Display| {
        Failure::new(format!("the node on this home stopped answering: {why}"))
            .hint("`lotline status` shows whether it runs; look whether the command was done before you repeat it")
    };
    let request = agent.post(format!("http://{}{VERB}", run_file.api)).config().timeout_global(Some(ANSWER_WITHIN)).build();
    let mut response = match request.header("Authorization", format!("Bearer {}", keys.token())).send_json(verb) {
        Ok(response) => response,
        // Stopped between the two requests: nothing was asked of it.
        Err(ureq::Error::Io(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => return Ok(None),
        Err(error) => return Err(broke(&error)),
    };
    let said: Said = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_json().map_err(|why| broke(&why))?;
    Ok(Some(match said {
        Said::Answer(answer) => Ok(answer),
        Said::Failure(failure) => Err(failure),
    }))
}

/// Where a node on this home says it answers, and the keys to talk to it.
fn addressed(home: &Home) -> Option<(RunFile, Keys)> {
    let run_file: RunFile = serde_json::from_slice(&std::fs::read(home.run_file()).ok()?).ok()?;
    let token = std::fs::read_to_string(home.token_file()).ok()?.trim().to_owned();
    (run_file.api.ip().is_loopback() && !token.is_empty()).then(|| (run_file, Keys::of(token)))
}

fn proves_itself(agent: &Agent, run_file: &RunFile, keys: &Keys) -> bool {
    let mut nonce = [0u8; 16];
    random(&mut nonce);
    let nonce = lotline_schema::id::hex(&nonce);
    let request = agent.get(format!("http://{}{HEALTH}?nonce={nonce}", run_file.api)).config().timeout_global(Some(PROOF_WITHIN)).build();
    let Ok(mut response) = request.header("Authorization", format!("Bearer {}", keys.knock())).call() else {
        return false;
    };
    let said: Option<serde_json::Value> = response.body_mut().with_config().limit(64 * 1024).read_json().ok();
    said.is_some_and(|said| said["proof"] == keys.proof(&nonce))
}
