//! Two nodes that share a code get to know each other: SPAKE2, six digits for two screens, and what each says of itself.
//!
//! The connection is encrypted, but with whom is unknown. The code answers that: the keys that TLS has proven on both sides are
//! the identities of the key exchange, so that who stands in between and does not know the code ends with another key. Who
//! *does* know it (overheard on the telephone) can stand in between, and has to give himself away on the two screens: the
//! digits follow from a number of each side, and the caller is bound to its own, and to what it says of itself, before it
//! sees the other's. Nobody can choose theirs to make digits match: one chance in a million.
//!
//! ```text
//! caller                                        host
//!  START  version, number of the code, X  ---->
//!                                         <---- ANSWER  Y
//!  PROVE  proof of the key, bound         ---->         a wrong proof: one try less
//!                                         <---- SHOW    proof of the key, number, claim
//!  REVEAL number, claim                   ---->         must be what was bound
//!                                         <---- DONE    the host shows the digits
//! ```
//!
//! Who calls proves first, so a stranger learns nothing about a code without spending a try. A number that nobody uses takes
//! the same steps. Once a caller has proven the code, whatever ends the conversation before its last frame ends the invitation too:
//! else one could look at the digits that would come and break off until they match. Frames: u32 length (big endian), then a
//! CBOR array.

use std::time::Duration;

use lotline_schema::codec::{self, Value};
use lotline_schema::note::hmac;
use lotline_schema::org::Org;
use lotline_schema::{Hash, PartyId};
use spake2::{Ed25519Group, Identity, Password, Spake2};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use super::code::Code;
use crate::feeds::transport;
use crate::invitation::Invitation;
use crate::keys::random;
use crate::net::PeerId;

const VERSION: u64 = 1;
/// The longest frame of somebody who has proven nothing yet.
const FRAME_BYTES_MAX: usize = 512;
/// The longest frame with a claim, which holds an org feed.
const CLAIM_BYTES_MAX: usize = 1 << 20;
/// For one frame of the other side. A person is waiting.
const FRAME_WITHIN: Duration = Duration::from_secs(10);
/// What the two keys and the digits are made for.
const CALLER: &[u8] = b"lotline pair v1 caller";
const HOST: &[u8] = b"lotline pair v1 host";
const DIGITS: &[u8] = b"lotline pair v1 digits";

/// What a side says of itself: proven to come from whoever has the code. The name is true as far as one believes that one; that the
/// organisation named this node is proven by its org feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Names, keys and addresses.
    pub invitation: Invitation,
    /// The cores of its org feed, from the first on: they name the node's key, under the root whose six words people compare.
    pub org: Vec<Vec<u8>>,
    /// Whether a person looks at the digits there. Not so for an invitation that was made for one supplier among many.
    pub attended: bool,
}

/// The outcome, the same on both sides but for whom it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Met {
    /// What the other side says of itself.
    pub claim: Claim,
    /// Six digits, the same on both screens.
    pub digits: String,
}

/// Why two nodes did not meet.
#[derive(Debug, thiserror::Error)]
pub enum PairError {
    /// The code is wrong, or none: which of these is not told.
    #[error("the code is not right, or has expired, was used, or was tried too often")]
    WrongCode,
    /// The other side says something else than it was bound to, or of another node.
    #[error("the other side does not keep to what it said: somebody may stand in between; do not pair over this line")]
    Deceived,
    /// The code was right, and then the conversation broke off: from outside that looks like somebody who looks at the digits first.
    #[error("the conversation broke off after the code was proven ({0}): begin again with a new code")]
    BrokenOff(String),
    /// It speaks another version of pairing.
    #[error("the other side speaks another version of pairing: update the older of the two programs")]
    Version,
    /// It does not speak the protocol.
    #[error("the other side sent what does not belong into pairing")]
    Malformed,
    /// It is gone, or too slow.
    #[error("the connection ended: {0}")]
    Io(#[from] std::io::Error),
}

/// Which key is at which end, as TLS has proven.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// Who dialled.
    pub caller: PeerId,
    /// Who answers.
    pub host: PeerId,
}

/// The side that dialled.
pub async fn call(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), ends: Ends, code: &Code, ours: &Claim) -> Result<Met, PairError> {
    let (exchange, x) = Spake2::<Ed25519Group>::start_a(&Password::new(code.secret()), &ends.caller.identity(), &ends.host.identity());
    send(stream, [codec::uint(VERSION), codec::uint(code.number().into()), codec::bytes(x.clone())]).await?;
    let [y] = receive(stream, FRAME_BYTES_MAX).await?;
    let y = bytes_of(&y)?;
    let key = exchange.finish(y).map_err(|_| PairError::Malformed)?;
    let said = ends.transcript(code.number(), &x, y);
    let (number, claim) = (nonce(), ours.to_bytes());
    let bound = Hash::of(&[&number, &claim]);
    send(stream, [codec::bytes(proof(&key, CALLER, &said, &[&bound.0])), codec::bytes(bound.0)]).await?;

    let shown = receive(stream, CLAIM_BYTES_MAX).await;
    // Our proof is out: who only wanted to hold a guess against it says nothing any more.
    let [theirs, their_number, their_claim] = shown.map_err(|why| match why {
        PairError::WrongCode | PairError::Version => why,
        other => PairError::BrokenOff(other.to_string()),
    })?;
    let (their_number, their_claim) = (bytes_of(&their_number)?, bytes_of(&their_claim)?);
    // Whoever does not know the code cannot answer ours, and knows no more about it now than one guess.
    if bytes_of(&theirs)? != proof(&key, HOST, &said, &[their_number, their_claim]) {
        return Err(PairError::WrongCode);
    }
    let met = Claim::read(their_claim, ends.host)?;
    send(stream, [codec::bytes(number), codec::bytes(claim.clone())]).await?;
    let []: [Value; 0] = receive(stream, FRAME_BYTES_MAX).await.map_err(|why| PairError::BrokenOff(why.to_string()))?;
    Ok(Met { claim: met, digits: digits(&key, &said, &number, &claim, their_number, their_claim) })
}

/// The side that answers. `code` finds the invitation that has a number; `take` says whether it is still there for who has come,
/// before that one is told.
pub async fn answer(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    ends: Ends,
    code: impl FnOnce(u16) -> Option<(Code, Claim)>,
    take: impl FnOnce(&Met) -> bool,
) -> Result<Met, PairError> {
    let [version, asked, x] = receive(stream, FRAME_BYTES_MAX).await?;
    if codec::as_uint(&version) != Some(VERSION) {
        let _ = refuse(stream, Refusal::Version).await;
        return Err(PairError::Version);
    }
    let asked = codec::as_uint(&asked).and_then(|number| u16::try_from(number).ok()).ok_or(PairError::Malformed)?;
    let known = code(asked);
    // Nobody has this number: the same steps with a code that nobody knows.
    let code = known.as_ref().map(|(code, _)| code.clone()).or_else(|| Code::new(|_| true)).ok_or(PairError::WrongCode)?;
    let (exchange, y) = Spake2::<Ed25519Group>::start_b(&Password::new(code.secret()), &ends.caller.identity(), &ends.host.identity());
    let x = bytes_of(&x)?;
    let key = exchange.finish(x).map_err(|_| PairError::Malformed)?;
    let said = ends.transcript(asked, x, &y);
    send(stream, [codec::bytes(y)]).await?;

    let [proven, bound] = receive(stream, FRAME_BYTES_MAX).await?;
    let (proven, bound) = (bytes_of(&proven)?, bytes_of(&bound)?);
    let holds = proven == proof(&key, CALLER, &said, &[bound]);
    let Some((_, ours)) = known.filter(|_| holds) else {
        let _ = refuse(stream, Refusal::Code).await;
        return Err(PairError::WrongCode);
    };
    let (number, claim) = (nonce(), ours.to_bytes());
    let revealed = async {
        let shown = [codec::bytes(proof(&key, HOST, &said, &[&number, &claim])), codec::bytes(number), codec::bytes(claim.clone())];
        send(stream, shown).await?;
        let [their_number, their_claim] = receive(stream, CLAIM_BYTES_MAX).await?;
        let (their_number, their_claim) = (bytes_of(&their_number)?.to_vec(), bytes_of(&their_claim)?.to_vec());
        if Hash::of(&[&their_number, &their_claim]).0 != bound || their_number.len() != number.len() {
            return Err(PairError::Deceived);
        }
        let met = Claim::read(&their_claim, ends.caller)?;
        let digits = digits(&key, &said, &their_number, &their_claim, &number, &claim);
        Ok(Met { claim: met, digits })
    };
    match revealed.await {
        Err(PairError::Deceived) => Err(PairError::Deceived),
        Err(why) => Err(PairError::BrokenOff(why.to_string())),
        Ok(met) => {
            // What is taken is taken, whether or not this arrives.
            if take(&met) {
                let _ = send(stream, []).await;
                Ok(met)
            } else {
                let _ = refuse(stream, Refusal::Code).await;
                Err(PairError::WrongCode)
            }
        }
    }
}

impl Ends {
    fn transcript(self, number: u16, x: &[u8], y: &[u8]) -> Hash {
        Hash::of(&[b"lotline pair v1", &self.caller.to_bytes(), &self.host.to_bytes(), &number.to_be_bytes(), x, y])
    }
}

impl PeerId {
    fn identity(self) -> Identity {
        Identity::new(&self.to_bytes())
    }
}

impl Claim {
    fn to_bytes(&self) -> Vec<u8> {
        let org = codec::array(self.org.iter().map(|core| codec::bytes(core.as_slice())));
        codec::encode(&codec::array([codec::text(self.invitation.to_text()), Value::Bool(self.attended), org]))
    }

    /// Reads it, and holds it to the key that TLS has proven.
    fn read(bytes: &[u8], peer: PeerId) -> Result<Claim, PairError> {
        let value = codec::decode(bytes).map_err(|_| PairError::Malformed)?;
        let Some([Value::Text(invitation), Value::Bool(attended), org]) = codec::as_array(&value) else {
            return Err(PairError::Malformed);
        };
        let invitation = Invitation::read(invitation).map_err(|_| PairError::Malformed)?;
        let cores = codec::as_array(org).ok_or(PairError::Malformed)?.iter();
        let org: Vec<Vec<u8>> =
            cores.map(|core| codec::as_bytes(core).map(<[u8]>::to_vec)).collect::<Option<_>>().ok_or(PairError::Malformed)?;
        match invitation.peer == peer.to_string() && names(invitation.party, &org, &invitation.peer) {
            true => Ok(Claim { invitation, org, attended: *attended }),
            false => Err(PairError::Deceived),
        }
    }
}

/// Whether an organisation's own signed statements name this node.
fn names(party: PartyId, cores: &[Vec<u8>], peer: &str) -> bool {
    let mut org = Org::new(party);
    cores.iter().all(|core| org.accept(core.clone()).is_ok()) && transport::names(&org).iter().any(|name| name == peer)
}

fn nonce() -> [u8; 32] {
    let mut nonce = [0; 32];
    random(&mut nonce);
    nonce
}

/// Proof of the key by one side, over all that was said so far and what it says now.
fn proof(key: &[u8], side: &[u8], said: &Hash, now: &[&[u8]]) -> [u8; 32] {
    let now: Vec<u8> = now.iter().flat_map(|part| Hash::of(&[part]).0).collect();
    hmac(key, &[side, &said.0, &now].concat())
}

fn digits(key: &[u8], said: &Hash, caller_number: &[u8], caller: &[u8], host_number: &[u8], host: &[u8]) -> String {
    let mac = proof(key, DIGITS, said, &[caller_number, caller, host_number, host]);
    let number = u64::from_be_bytes(mac[..8].try_into().expect("eight of 32 bytes"));
    let six = number % 1_000_000;
    format!("{:03} {:03}", six / 1000, six % 1000)
}

/// What the host says instead of going on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Refusal {
    Code,
    Version,
}

async fn refuse(stream: &mut (impl AsyncWrite + Unpin), why: Refusal) -> Result<(), PairError> {
    // An array of a length that no step has.
    let why = codec::uint(why as u64);
    write(stream, &codec::encode(&codec::array([why, Value::Null, Value::Null, Value::Null]))).await
}

async fn send<const N: usize>(stream: &mut (impl AsyncWrite + Unpin), parts: [Value; N]) -> Result<(), PairError> {
    write(stream, &codec::encode(&codec::array(parts))).await
}

async fn write(stream: &mut (impl AsyncWrite + Unpin), body: &[u8]) -> Result<(), PairError> {
    let length = u32::try_from(body.len()).map_err(|_| PairError::Malformed)?;
    let written = async {
        stream.write_all(&[&length.to_be_bytes()[..], body].concat()).await?;
        stream.flush().await
    };
    timeout(FRAME_WITHIN, written).await.map_err(|_| PairError::Io(std::io::ErrorKind::TimedOut.into()))?.map_err(PairError::Io)
}

async fn receive<const N: usize>(stream: &mut (impl AsyncRead + Unpin), bytes_max: usize) -> Result<[Value; N], PairError> {
    let read = async {
        let length = stream.read_u32().await? as usize;
        if length > bytes_max {
            return Err(PairError::Malformed);
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        Ok(body)
    };
    let body = timeout(FRAME_WITHIN, read).await.map_err(|_| PairError::Io(std::io::ErrorKind::TimedOut.into()))??;
    let value = codec::decode(&body).map_err(|_| PairError::Malformed)?;
    let Value::Array(parts) = value else { return Err(PairError::Malformed) };
    if let [why, Value::Null, Value::Null, Value::Null] = &parts[..] {
        return Err(if codec::as_uint(why) == Some(Refusal::Version as u64) { PairError::Version } else { PairError::WrongCode });
    }
    parts.try_into().map_err(|_| PairError::Malformed)
}

fn bytes_of(value: &Value) -> Result<&[u8], PairError> {
    codec::as_bytes(value).ok_or(PairError::Malformed)
}

impl Met {
    /// One line for a log: no secret, no content.
    pub fn line(&self) -> String {
        format!("{} at {}", self.claim.invitation.party.short(), self.claim.invitation.peer)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{DuplexStream, duplex};

    use super::*;

    const CALLER_PEER: u8 = 1;
    const HOST_PEER: u8 = 2;

    fn peer(of: u8) -> PeerId {
        let seed = [of; 32];
        crate::net::transport_peer_id(&seed)
    }

    fn ends() -> Ends {
        Ends { caller: peer(CALLER_PEER), host: peer(HOST_PEER) }
    }

    fn claim(name: &str, of: u8) -> Claim {
        let (party, org) = firm(of);
        Claim {
            invitation: Invitation {
                party,
                name: name.into(),
                peer: peer(of).to_string(),
                addresses: vec!["/ip4/127.0.0.1/tcp/4001".into()],
            },
            org,
            attended: true,
        }
    }

    /// A firm whose org feed names the node with this number.
    fn firm(of: u8) -> (PartyId, Vec<Vec<u8>>) {
        use lotline_schema::cose::Signer;
        use lotline_schema::org::{self, Entry, Role};
        let root = Signer::from_seed(&[100 + of; 32]);
        let party = PartyId::of(&root.public());
        let key = |seed: [u8; 32]| Signer::from_seed(&seed).public();
        let keys = [(Role::Record, [201; 32]), (Role::Log, [202; 32]), (Role::Transport, [of; 32]), (Role::Witness, [203; 32])];
        let keys = keys.into_iter().map(|(role, seed)| (role, key(seed))).collect();
        let org = Org::new(party);
        let sealed = org::seal(&org, &Entry::keyring("firm", keys), 0, &root, crate::keys::random).unwrap();
        (party, vec![sealed.core])
    }

    fn code(text: &str) -> Code {
        text.parse().unwrap()
    }

    type Answered = Result<Met, PairError>;

    async fn pair(caller: &Code, host: &Code) -> (Result<Met, PairError>, Answered) {
        let (mut near, mut far) = duplex(1 << 16);
        let (called, answered) = (claim("ACME", CALLER_PEER), claim("OEM", HOST_PEER));
        tokio::join!(
            async {
                let met = call(&mut near, ends(), caller, &called).await;
                drop(near);
                met
            },
            async {
                let met = answer(&mut far, ends(), |asked| (asked == host.number()).then(|| (host.clone(), answered)), |_| true).await;
                drop(far);
                met
            },
        )
    }

    #[tokio::test]
    async fn two_who_share_a_code_see_the_same_digits_and_each_others_claim() {
        let code = code("K7M-4QX-9TP");
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..8 {
            let (caller, host) = pair(&code, &code).await;
            let (caller, host) = (caller.unwrap(), host.unwrap());
            let (theirs, ours) = (claim("OEM", HOST_PEER).invitation, claim("ACME", CALLER_PEER).invitation);
            assert_eq!((caller.claim.invitation, host.claim.invitation), (theirs, ours));
            assert_eq!((caller.digits.len(), &caller.digits), (7, &host.digits));
            seen.insert(caller.digits);
        }
        assert!(seen.len() > 6, "new digits each time: {seen:?}");
    }

    #[tokio::test]
    async fn a_wrong_code_and_an_unknown_number_get_the_same_answer() {
        let host = code("K7M-4QX-9TP");
        for tried in ["K7M-4QX-9TQ", "K8M-4QX-9TP"] {
            let (caller, answered) = pair(&code(tried), &host).await;
            assert!(matches!(caller, Err(PairError::WrongCode)), "{caller:?}");
            assert!(matches!(answered, Err(PairError::WrongCode)), "{answered:?}");
        }
    }

    /// Who knows the code stands in between and speaks to both under its own key.
    #[tokio::test]
    async fn who_stands_in_between_and_knows_the_code_shows_in_the_digits() {
        let shared = code("K7M-4QX-9TP");
        let mut alike = 0;
        for _ in 0..20 {
            let (mut near, mut middle_near) = duplex(1 << 16);
            let (mut middle_far, mut far) = duplex(1 << 16);
            let (honest, posing) = (claim("ACME", 1), claim("ACME", 9));
            let (to_middle, from_middle) = (Ends { caller: peer(1), host: peer(9) }, Ends { caller: peer(9), host: peer(2) });
            let (caller, host, _, _) = tokio::join!(
                call(&mut near, to_middle, &shared, &honest),
                answer(&mut far, from_middle, |_| Some((shared.clone(), claim("OEM", 2))), |_| true),
                answer(&mut middle_near, to_middle, |_| Some((shared.clone(), claim("OEM", 9))), |_| true),
                call(&mut middle_far, from_middle, &shared, &posing),
            );
            alike += u32::from(caller.unwrap().digits == host.unwrap().digits);
        }
        assert_eq!(alike, 0, "one in a million each");
    }

    /// Bytes that are passed on unchanged help nobody either: the keys at the two ends are other ones.
    #[tokio::test]
    async fn who_passes_the_bytes_on_unchanged_gets_nowhere() {
        let shared = code("K7M-4QX-9TP");
        let (mut near, mut far) = duplex(1 << 16);
        let (theirs, ours) = (claim("OEM", 2), claim("ACME", 1));
        let (caller, host) = tokio::join!(
            async {
                let met = call(&mut near, Ends { caller: peer(1), host: peer(9) }, &shared, &ours).await;
                drop(near);
                met
            },
            async {
                let met = answer(&mut far, Ends { caller: peer(9), host: peer(2) }, |_| Some((shared.clone(), theirs)), |_| true).await;
                drop(far);
                met
            },
        );
        assert!(matches!(caller, Err(PairError::WrongCode)) && matches!(host, Err(PairError::WrongCode)));
    }

    #[tokio::test]
    async fn a_caller_is_bound_to_its_number_and_its_claim_before_it_sees_the_hosts() {
        let shared = code("K7M-4QX-9TP");
        for change in ["number", "claim"] {
            let (mut near, mut far) = duplex(1 << 16);
            let cheat = async {
                let (exchange, x) =
                    Spake2::<Ed25519Group>::start_a(&Password::new(shared.secret()), &ends().caller.identity(), &ends().host.identity());
                send(&mut near, [codec::uint(VERSION), codec::uint(shared.number().into()), codec::bytes(x.clone())]).await.unwrap();
                let [y] = receive(&mut near, CLAIM_BYTES_MAX).await.unwrap();
                let y = bytes_of(&y).unwrap();
                let (key, said) = (exchange.finish(y).unwrap(), ends().transcript(shared.number(), &x, y));
                let (number, claimed) = (nonce(), claim("ACME", 1).to_bytes());
                let bound = Hash::of(&[&number, &claimed]);
                send(&mut near, [codec::bytes(proof(&key, CALLER, &said, &[&bound.0])), codec::bytes(bound.0)]).await.unwrap();
                let [_, _, _]: [Value; 3] = receive(&mut near, CLAIM_BYTES_MAX).await.unwrap();
                let (number, claimed) = match change {
                    "number" => (nonce(), claimed),
                    _ => (number, claim("ACME 2", 1).to_bytes()),
                };
                send(&mut near, [codec::bytes(number), codec::bytes(claimed)]).await.unwrap();
            };
            let (_, host) = tokio::join!(cheat, answer(&mut far, ends(), |_| Some((shared.clone(), claim("OEM", 2))), |_| true));
            assert!(matches!(host, Err(PairError::Deceived)), "{change}: {host:?}");
        }
    }

    #[tokio::test]
    async fn a_claim_about_another_node_is_refused() {
        let shared = code("K7M-4QX-9TP");
        let (mut near, mut far) = duplex(1 << 16);
        let (liar, honest) = (claim("OEM", 7), claim("ACME", 1));
        let (caller, _) = tokio::join!(
            async {
                let met = call(&mut near, ends(), &shared, &honest).await;
                drop(near);
                met
            },
            answer(&mut far, ends(), |_| Some((shared.clone(), liar)), |_| true)
        );
        assert!(matches!(caller, Err(PairError::Deceived)), "{caller:?}");
    }

    /// The six words are those of the organisation that named this very key: nobody stands under another's.
    #[tokio::test]
    async fn a_claim_of_an_organisation_that_did_not_name_the_node_is_refused() {
        let shared = code("K7M-4QX-9TP");
        let thief = Claim { invitation: Invitation { peer: peer(2).to_string(), ..claim("OEM", 7).invitation }, ..claim("OEM", 7) };
        let unproven = Claim { org: Vec::new(), ..claim("OEM", 2) };
        for liar in [thief, unproven] {
            let (mut near, mut far) = duplex(1 << 16);
            let honest = claim("ACME", 1);
            let (caller, _) = tokio::join!(
                async {
                    let met = call(&mut near, ends(), &shared, &honest).await;
                    drop(near);
                    met
                },
                answer(&mut far, ends(), |_| Some((shared.clone(), liar)), |_| true)
            );
            assert!(matches!(caller, Err(PairError::Deceived)), "{caller:?}");
        }
    }

    async fn hears(bytes: &[u8]) -> Answered {
        let (mut near, mut far): (DuplexStream, DuplexStream) = duplex(1 << 17);
        near.write_all(bytes).await.unwrap();
        near.shutdown().await.unwrap();
        answer(&mut far, ends(), |_| Some((code("K7M-4QX-9TP"), claim("OEM", 2))), |_| true).await
    }

    #[tokio::test]
    async fn whatever_is_sent_is_refused_and_nothing_panics() {
        let mut state = 7u64;
        let mut draw = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as u32
        };
        let start = codec::encode(&codec::array([codec::uint(VERSION), codec::uint(7), codec::bytes([0x41; 33])]));
        for _ in 0..2000 {
            let mut body = start.clone();
            for _ in 0..draw() % 4 {
                let at = draw() as usize % body.len();
                body[at] = draw() as u8;
            }
            let length = if draw() % 8 == 0 { draw() } else { body.len() as u32 };
            assert!(hears(&[&length.to_be_bytes()[..], &body].concat()).await.is_err());
        }
        let other_version = codec::encode(&codec::array([codec::uint(2), codec::uint(7), codec::bytes([0x41; 33])]));
        let heard = hears(&[&(other_version.len() as u32).to_be_bytes()[..], &other_version].concat()).await;
        assert!(matches!(heard, Err(PairError::Version)), "{heard:?}");
        assert!(matches!(hears(&[0xff, 0xff, 0xff, 0xff]).await, Err(PairError::Malformed)), "no room is made for what is too long");
    }
}
