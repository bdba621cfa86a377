//! Pairing by a code, over real connections: what it gives, what it costs to try, and what strangers see.

use std::sync::Arc;
use std::time::Duration;

use lotline_integration::clock::SetClock;
use lotline_integration::forge::{Node, until, within};
use lotline_integration::world::{World, string, wait};
use lotline_node::answer::{Answer, Failure};
use lotline_node::net::{Address, OpenError, Protocol};
use lotline_node::pairing::handshake::{self, Claim, Ends, PairError};
use lotline_node::pairing::{CODE_FOR, State, TRIES, code::Code};
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// Calls a verb of `partner` as the local API would.
async fn partner(node: &Node, verb: Value) -> Result<Answer, Failure> {
    node.verb(json!({ "Partner": verb })).await
}

async fn accept(node: &Node, code: &str, host: Option<&str>) -> u64 {
    let verb = json!({ "Accept": { "invitation": code, "host": host, "name": null, "subscribe": false } });
    partner(node, verb).await.expect("a pairing begins").json["pairing"].as_u64().expect("and has a number")
}

async fn host_of(node: &Node) -> Address {
    node.net.listen_addresses().await.remove(0)
}

/// Waits until a pairing has come to something; gives the digits, or why it is over.
async fn outcome(node: &Node, number: u64) -> Result<String, String> {
    until("a pairing to come to something", || match node.pairings.get(number)?.state {
        State::Met(met) => Some(Ok(met.digits.clone())),
        State::Over(why) => Some(Err(why)),
        _ => None,
    })
    .await
}

fn claim_of(node: &Node) -> Claim {
    let snapshot = node.service.handle.snapshot();
    let invitation = lotline_node::invitation::Invitation {
        party: snapshot.party,
        name: snapshot.name.clone(),
        peer: snapshot.peer.clone(),
        addresses: Vec::new(),
    };
    let org = snapshot.orgs[&snapshot.party].entries().to_vec();
    Claim { invitation, org, attended: true }
}

/// One conversation with a code, over a connection of its own.
async fn try_code(caller: &Node, host: &Node, code: &Code) -> Result<String, PairError> {
    let mut stream = within("a stream for pairing", caller.net.visit(host_of(host).await)).await.expect("guests are let in");
    let ends = Ends { caller: caller.net.peer(), host: stream.peer() };
    let met = handshake::call(&mut stream, ends, code, &claim_of(caller)).await;
    caller.net.part(stream).await;
    met.map(|met| met.digits)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_meet_and_both_owners_see_the_same_digits_and_nothing_else_is_given() {
    let (oem, supplier) = (Node::new("OEM").await, Node::new("Brandt").await);
    let (number, code) = oem.pairings.expect(None).await.unwrap();
    let host = host_of(&oem).await.host_port();
    let called = accept(&supplier, &code.to_string().to_lowercase(), Some(&host)).await;
    let (here, there) = (outcome(&oem, number).await.unwrap(), outcome(&supplier, called).await.unwrap());
    assert_eq!(here, there);
    assert!(oem.service.handle.snapshot().book.is_empty(), "nobody is in a book before its owner says so");

    let unsaid = partner(&oem, json!({ "Confirm": { "pairing": number, "name": "brandt", "group": null, "subscribe": false } })).await;
    assert!(unsaid.unwrap_err().to_string().contains("--group"));
    let confirm = |number: u64, name: &str, group: &str| json!({ "Confirm": { "pairing": number, "name": name, "group": group, "subscribe": false } });
    let said = partner(&oem, confirm(number, "brandt", "suppliers")).await.unwrap();
    assert!(said.text.contains("It sees nothing until a rule"), "{}", said.text);
    assert_eq!(said.json["changes"], json!([]), "joining a group that no rule speaks of changes nothing: {}", said.json);
    partner(&supplier, confirm(called, "oem", "customers")).await.unwrap();
    let policy = oem.service.handle.snapshot().policy.clone();
    assert!(policy.groups()["suppliers"].contains("brandt") && policy.shares().is_empty());
    until("the supplier to connect", || oem.board.of("brandt").connected.then_some(())).await;
    assert!(supplier.board.of("oem").offers.is_empty() && oem.board.of("brandt").offers.is_empty());
    assert!(oem.pairings.get(number).is_none() && partner(&oem, confirm(number, "again", "x")).await.is_err(), "a code is used once");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_be_called_invites_by_calling() {
    let (oem, supplier) = (Node::new("OEM").await, Node::new("Brandt").await);
    // The node calls at once; the customer has typed nothing yet, and is let in on a later call.
    let (early, _) = supplier.pairings.call_and_wait(host_of(&oem).await).await.unwrap();
    until("the call to be refused", || supplier.pairings.get(early).filter(|pairing| matches!(pairing.state, State::Tried(_)))).await;
    supplier.pairings.end(early).await.unwrap();
    let code = Code::new(|_| true).unwrap();
    let number = accept(&oem, &code.to_string(), None).await;
    let called = supplier.pairings.call(code, host_of(&oem).await).await.unwrap();
    assert_eq!(outcome(&oem, number).await.unwrap(), outcome(&supplier, called).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn three_wrong_tries_burn_a_code_and_no_other() {
    let (oem, stranger) = (Node::new("OEM").await, Node::new("stranger").await);
    let (number, code) = oem.pairings.expect(None).await.unwrap();
    let (other, other_code) = oem.pairings.expect(None).await.unwrap();
    // The same number, and another secret.
    let text = code.to_string();
    let last = if text.ends_with('2') { '3' } else { '2' };
    let wrong: Code = format!("{}{last}", &text[..text.len() - 1]).parse().unwrap();
    let unknown = Code::new(|number| number != code.number() && number != other_code.number()).unwrap();
    for _ in 0..5 {
        assert!(matches!(try_code(&stranger, &oem, &unknown).await, Err(PairError::WrongCode)));
    }
    for left in (0..TRIES).rev() {
        assert!(matches!(try_code(&stranger, &oem, &wrong).await, Err(PairError::WrongCode)));
        until("the try to be counted", || oem.pairings.get(number).filter(|pairing| pairing.tries == left)).await;
    }
    assert!(outcome(&oem, number).await.unwrap_err().contains("burnt"));
    assert!(matches!(try_code(&stranger, &oem, &code).await, Err(PairError::WrongCode)), "the right code is worth nothing any more");
    assert_eq!(oem.pairings.get(other).unwrap().tries, TRIES);
    let digits = try_code(&stranger, &oem, &other_code).await.unwrap();
    assert_eq!(outcome(&oem, other).await.unwrap(), digits);
}

/// Guesses that are made at the same time are no more than guesses one after the other.
#[tokio::test(flavor = "multi_thread")]
async fn guesses_at_the_same_time_are_three_as_well() {
    let (oem, stranger) = (Arc::new(Node::new("OEM").await), Arc::new(Node::new("stranger").await));
    let (number, code) = oem.pairings.expect(None).await.unwrap();
    let text = code.to_string();
    let mut guesses = JoinSet::new();
    for last in "23456789ABCD".chars().filter(|last| !text.ends_with(*last)) {
        let guess: Code = format!("{}{last}", &text[..text.len() - 1]).parse().unwrap();
        let (oem, stranger) = (oem.clone(), stranger.clone());
        guesses.spawn(async move {
            // Eight at once have room; the others find the door shut.
            let Ok(mut stream) = stranger.net.visit(host_of(&oem).await).await else { return None };
            let ends = Ends { caller: stranger.net.peer(), host: stream.peer() };
            Some(handshake::call(&mut stream, ends, &guess, &claim_of(&stranger)).await)
        });
    }
    let tried = within("all answers", guesses.join_all()).await;
    let answered = tried.iter().flatten().count();
    assert!(answered > usize::from(TRIES) && tried.iter().flatten().all(|met| matches!(met, Err(PairError::WrongCode))), "{tried:?}");
    let burnt = outcome(&oem, number).await.unwrap_err();
    assert!(burnt.contains("three times"), "{burnt}");
    assert_eq!(oem.pairings.get(number).unwrap().tries, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_ends_after_ten_minutes() {
    let clock = SetClock::at(lotline_node::service::now());
    let (oem, supplier) = (Node::new_by(clock.watched(), "OEM").await, Node::new("Brandt").await);
    let (_, early) = oem.pairings.expect(None).await.unwrap();
    let (_, late) = oem.pairings.expect(None).await.unwrap();
    clock.pass(CODE_FOR - Duration::from_secs(1));
    assert!(try_code(&supplier, &oem, &early).await.is_ok());
    clock.pass(Duration::from_secs(2));
    assert!(matches!(try_code(&supplier, &oem, &late).await, Err(PairError::WrongCode)));
}

/// Strangers get no stream at all while nobody is invited, and only one kind of stream while somebody is.
#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_sees_pairing_and_only_while_somebody_is_invited() {
    let (oem, stranger) = (Node::new("OEM").await, Node::new("stranger").await);
    let refused = stranger.net.visit(host_of(&oem).await).await;
    assert!(matches!(refused, Err(OpenError::Unreachable(_) | OpenError::Closed | OpenError::Io(_) | OpenError::TimedOut)), "{refused:?}");
    let (number, _) = oem.pairings.expect(None).await.unwrap();
    // It takes the other for a partner, and asks for what partners get.
    stranger.know(oem.as_partner(false).await).await;
    until("the stranger to be connected as a guest", || stranger.board.of("OEM").connected.then_some(())).await;
    for protocol in [Protocol::Control, Protocol::Feed] {
        let opened = within("an answer", stranger.net.open(oem.net.peer(), protocol)).await;
        // Its own program gives the connection up soon, since nobody answers its pings.
        assert!(matches!(opened, Err(OpenError::Unsupported(_) | OpenError::Closed | OpenError::NotConnected)), "{opened:?}");
    }
    assert!(oem.service.handle.snapshot().book.is_empty() && !oem.board.of("stranger").connected);
    // The invitation is over: the door is shut again.
    oem.pairings.end(number).await.unwrap();
    let third = Node::new("third").await;
    assert!(third.net.visit(host_of(&oem).await).await.is_err());
}

/// The whole program, as two people use it, with everything said by flags.
#[test]
fn two_commands_pair_two_programs() {
    let world = World::new();
    let (oem, supplier) = (world.reachable_firm("oem"), world.firm("supplier"));
    let needs_node = oem.fails(1, &["partner", "invite"]);
    assert!(needs_node.hint().contains("lotline run"), "{needs_node:?}");
    oem.start();
    supplier.start();
    let nowhere = supplier.fails(2, &["partner", "invite"]);
    assert!(nowhere.hint().contains("--at HOST:PORT"), "{nowhere:?}");
    for slip in ["K7M-4QX", "K7M-4QX-9TU", "hello"] {
        assert!(supplier.fails(2, &["partner", "accept", slip, "127.0.0.1:1"]).error().contains("nine letters and digits"));
    }
    let invited = oem.ok(&["partner", "invite"]);
    let (code, host) = (string(&invited["code"]), string(&invited["host"]));
    let accepted =
        supplier.ok(&["partner", "accept", &format!("{code}@{host}"), "--as", "oem", "--group", "customers", "--subscribe", "--yes"]);
    assert_eq!((&accepted["name"], &accepted["group"]), (&json!("oem"), &json!("customers")));
    let number = invited["pairing"].to_string();
    let pairing = oem.ok(&["partner", "pairings", &number])["pairings"][0].clone();
    assert_eq!((&pairing["state"], &pairing["claims"]["name"]), (&json!("met"), &json!("supplier")));
    let confirmed = oem.ok(&["partner", "confirm", &number, "--as", "supplier", "--group", "suppliers"]);
    assert_eq!(confirmed["identity"], json!(supplier.identity()));
    wait("the two to connect", || oem.partner("supplier")["connected"] == true && supplier.partner("oem")["connected"] == true);
    assert_eq!(oem.ok(&["partner", "pairings"])["pairings"], json!([]));
    oem.fails(5, &["partner", "decline", &number]);
    oem.is_clean();
    supplier.is_clean();
}

/// An OEM invites by its list of suppliers; each needs its own code and nobody at the OEM.
#[test]
fn suppliers_of_a_list_come_by_themselves_each_with_its_code() {
    let world = World::new();
    let oem = world.reachable_firm("oem");
    oem.start();
    let slips = world.file("slips.csv", "supplier;name;group\n4711;brandt;\n4712;two words;cast\n4711;again;cast\n;nobody;cast\n");
    let refused = oem.fails(2, &["partner", "invite", "--from", &slips]);
    for fault in
        ["line 2: no group", "line 3: `two words` cannot name", "line 4: `again` stands in the list twice", "line 5: no supplier number"]
    {
        assert!(refused.error().contains(fault), "{refused:?}");
    }
    let list = world.file("suppliers.csv", "supplier;name;group\n4711;brandt;castings\n4712;;\n4713;curtis;\n");
    let made = oem.ok(&["partner", "invite", "--from", &list, "--group", "suppliers"]);
    let (host, made) = (string(&made["host"]), made["invitations"].as_array().unwrap().clone());
    assert_eq!(made.iter().map(|one| string(&one["name"])).collect::<Vec<_>>(), ["brandt", "4712", "curtis"]);
    // Codes stay good when the node starts again.
    oem.stop();
    oem.start();
    for one in &made[..2] {
        let supplier = world.firm(&format!("firm {}", string(&one["supplier"])));
        supplier.start();
        let (code, name) = (string(&one["code"]), string(&one["name"]));
        supplier.ok(&["partner", "accept", &code, &host, "--as", "oem", "--group", "customers", "--yes"]);
        wait("the supplier to be connected under its name in the list", || oem.partner(&name)["connected"] == true);
        let book = oem.ok(&["partner", "list"])["partners"].as_array().unwrap().clone();
        assert!(book.iter().any(|one| one["name"] == name && one["identity"] == supplier.identity()), "{book:?}");
        // Its code is worth nothing to anybody else.
        let thief = world.firm(&format!("thief of {name}"));
        thief.start();
        let refused = thief.call(&["partner", "accept", &code, &host, "--as", "oem", "--group", "customers", "--yes"]);
        assert!(refused.error().contains("not paired"), "{refused:?}");
        thief.stop();
    }
    let groups = oem.ok(&["policy", "show"])["text"].as_str().unwrap_or_default().to_owned();
    assert!(groups.contains(r#""castings" = ["brandt"]"#) && groups.contains(r#""suppliers" = ["4712"]"#), "{groups}");
    let waiting = oem.ok(&["partner", "pairings"])["pairings"].as_array().unwrap().clone();
    assert_eq!(waiting.len(), 1, "{waiting:?}");
    assert_eq!(waiting[0]["supplier"], "4713");
    // The same number once more: the old code is replaced.
    let again = oem.ok(&["partner", "invite", "--from", &world.file("one.csv", "supplier,group\n4713,castings\n")]);
    assert_ne!(again["invitations"][0]["code"], made[2]["code"]);
    assert_eq!(oem.ok(&["partner", "pairings"])["pairings"].as_array().unwrap().len(), 1);
    oem.is_clean();
}
