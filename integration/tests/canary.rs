//! Canaries: values that nobody else has, in every field. What a partner may not see must be nowhere on its side: not in
//! a byte of its streams, in its store, in a log, an error or a bundle. What it may see is found in the same run, and a
//! leak made on purpose is found too, or the search would prove nothing.
// The exception for tests covers only functions marked #[test], not what they share.
#![allow(clippy::unwrap_used)]

use lotline_integration::canaries::{Search, canary, checked, inspection, log, needles_in};
use lotline_integration::forge::{Forge, Node, Peer, until};
use lotline_node::exchange::{CREDIT_BYTES, Message};
use lotline_schema::kind::inspection::SCHEMA;
use lotline_schema::tree::empty_root;
use lotline_schema::{Origin, Record};
use serde_json::json;

/// What the rules show of the open part: text, a number, and a table row among them.
const SHOWN: [&str; 5] = ["part", "lot", "quantity", "certificate", "remarks"];
const OPEN_PART: &str = "P-OPEN";
const OPEN_LOT: &str = "L-OPEN";

/// A maker with two records: one of the open part, and one of a part that nobody hears of.
struct Scene {
    maker: Node,
    customer: Node,
    spy: Forge,
    open: Record,
    secret: Record,
    secret_lot: String,
}

/// What came out on the other side.
struct Caught {
    streams: Vec<u8>,
    store: tempfile::TempDir,
    /// Errors, states and answers in words.
    words: String,
    bundles: Vec<Vec<u8>>,
}

fn rules(show: &str, nevers: &str) -> String {
    let share = |with: &str| {
        format!(
            "[[share]]\nname = 'to {with}'\nwith = '{with}'\nfeed = 'quality'\nparts = ['{OPEN_PART}']\nshow = {show}\nuntil = 'revoked'\n"
        )
    };
    format!("{}{}{nevers}", share("customer"), share("spy"))
}

fn by_name() -> String {
    rules(&format!("{SHOWN:?}"), "")
}

impl Scene {
    async fn new() -> Scene {
        let (maker, customer, spy) = (Node::new("maker").await, Node::new("customer").await, Forge::new("spy"));
        let (secret_part, secret_lot) = (canary("part"), canary("lot"));
        let (open, secret) = (checked(&inspection(OPEN_PART, OPEN_LOT)), checked(&inspection(&secret_part, &secret_lot)));
        maker.know(lotline_node::feeds::Partner { addresses: Vec::new(), ..customer.as_partner(false).await }).await;
        maker.know(spy.as_partner(false)).await;
        maker.know_keys_of(&spy).await;
        maker.publish("quality", vec![open.clone(), secret.clone()]).await;
        Scene { maker, customer, spy, open, secret, secret_lot }
    }

    fn origin(&self) -> Origin {
        self.maker.own("quality")
    }

    /// What the rules hide: of the open record all but what they show, of the other everything.
    async fn hidden(&self) -> Search {
        let mut needles = needles_in(&self.maker, "quality", &self.open, 1, |name| !SHOWN.contains(&name)).await;
        let hidden_slots: std::collections::BTreeSet<String> =
            needles.iter().map(|needle| needle.what.split(' ').next().unwrap().to_owned()).collect();
        assert_eq!(hidden_slots.len(), SCHEMA.fields.len() - SHOWN.len());
        needles.extend(needles_in(&self.maker, "quality", &self.secret, 2, |_| true).await);
        for kind in ["(text)", "(time)", "(bytes)", "(number as tag 4)", "(number as text)", "(salt)"] {
            assert!(needles.iter().any(|needle| needle.what.ends_with(kind)), "no canary of the kind {kind}");
        }
        assert!(needles.len() > 400, "{} canaries", needles.len());
        Search::new(needles)
    }

    /// What the rules show, to see that the search finds something.
    async fn shown(&self) -> Search {
        let needles = needles_in(&self.maker, "quality", &self.open, 1, |name| SHOWN.contains(&name)).await;
        Search::new(
            needles
                .into_iter()
                .filter(|needle| !needle.what.contains("hex") && !needle.what.contains("number as text") && !needle.what.contains("comma"))
                .collect(),
        )
    }

    /// Both partners take all they can get, live and by catching up, under each of these rules; then all is handed over.
    async fn run(self, policies: &[String]) -> (Caught, Search, Search) {
        let (hidden, shown) = (self.hidden().await, self.shown().await);
        let log_from = log().lock().unwrap().len();
        self.maker.apply(&policies[0]).await;
        self.customer.know(self.maker.as_partner(true).await).await;
        let origin = self.origin();
        let size = || self.maker.feed(&origin).unwrap().size();
        until("the customer to catch up", || self.customer.feed(&origin).filter(|feed| feed.size() == size())).await;
        let peer = Peer::connect(&self.spy, &self.maker).await;
        let mut control = peer.control("spy").await;
        let open =
            |origin: &Origin| Message::Open { origin: origin.to_string(), next: 0, root: empty_root(), view: None, credit: CREDIT_BYTES };
        let mut wires = Vec::new();
        for origin in [&origin, &Origin::org(origin.party())] {
            let mut wire = peer.follow(&open(origin)).await;
            wire.take_all(&self.spy).await;
            wires.push(wire);
        }
        for rules in &policies[1..] {
            self.maker.apply(rules).await;
        }
        // Live: one more record of each kind, the hidden one before the open one.
        let live = [checked(&inspection(&canary("part"), &canary("lot"))), checked(&inspection(OPEN_PART, "L-OPEN-2"))];
        self.maker.publish("quality", live.to_vec()).await;
        let mut all = hidden.needles;
        all.extend(needles_in(&self.maker, "quality", &live[0], 3, |_| true).await);
        all.extend(needles_in(&self.maker, "quality", &live[1], 4, |name| !SHOWN.contains(&name)).await);
        let hidden = Search::new(all);
        until("the customer to catch up", || self.customer.feed(&origin).filter(|feed| feed.size() == size())).await;
        while !matches!(wires[0].take(&self.spy).await.unwrap(), Message::Batch(batch) if batch.from + batch.items.len() as u64 == size()) {
        }
        // And once more from the start, under the rules in force now; and what is not there for it.
        let mut again = peer.follow(&open(&origin)).await;
        again.take_all(&self.spy).await;
        let mut none = peer.follow(&open(&self.maker.own("nothing"))).await;
        none.drain().await;
        wires.extend([again, none]);
        self.maker.with(|feeds| feeds.stop_sharing(Some("spy"))).await.unwrap();
        for wire in &mut wires {
            wire.drain().await;
        }
        // All that is left to it is its own org feed, as the maker holds it.
        let own = Origin::org(self.spy.party()).to_string();
        while !matches!(control.next().await.unwrap(), Message::Catalog(listings) if listings.iter().all(|of| of.origin == own)) {}
        let mut streams: Vec<u8> = wires.iter().flat_map(|wire| wire.read.clone()).collect();
        streams.extend(&control.read);
        self.hand_over(streams, log_from, hidden, shown).await
    }

    async fn hand_over(self, streams: Vec<u8>, log_from: usize, hidden: Search, shown: Search) -> (Caught, Search, Search) {
        let folder = tempfile::tempdir().unwrap();
        let bundle = |lot: &str, partner: Option<&str>, name: &str| {
            let output = folder.path().join(name);
            json!({ "Bundle": { "lot": lot, "part": null, "from": null, "partner": partner, "full": null, "yes": false, "output": output } })
        };
        let mut words = String::new();
        for (node, lot, partner, name) in [
            (&self.maker, OPEN_LOT, Some("customer"), "for"),
            (&self.maker, "L-OPEN-2", Some("customer"), "for-2"),
            (&self.customer, OPEN_LOT, None, "held"),
        ] {
            let answer = node.verb(bundle(lot, partner, name)).await.unwrap_or_else(|failure| panic!("{failure}"));
            words.push_str(&format!("{}\n{}\n", answer.text, answer.to_json()));
        }
        // Nothing can be bundled of what is hidden; the customer does not even know the name it would ask for.
        assert_eq!(self.maker.verb(bundle(&self.secret_lot, Some("customer"), "none")).await.unwrap_err().exit, 3);
        for verb in [
            json!({ "Status": {} }),
            json!({ "Feeds": {} }),
            json!({ "Records": { "lot": null, "part": null, "last": 50 } }),
            json!({ "Show": { "lot": OPEN_LOT, "part": null } }),
            json!({ "Audit": {} }),
        ] {
            match self.customer.verb(verb).await {
                Ok(answer) => words.push_str(&format!("{}\n{}\n", answer.text, answer.to_json())),
                Err(failure) => words.push_str(&failure.to_string()),
            }
        }
        words.push_str(&format!(
            "{:?} {:?} {:?}",
            self.customer.board.of("maker"),
            self.maker.board.of("spy"),
            self.maker.board.of("customer")
        ));
        let read = |name| std::fs::read(folder.path().join(name)).unwrap();
        let bundles = ["for", "for-2", "held"].map(read).into();
        let Scene { maker, customer, .. } = self;
        let (store, _) = customer.stop().await;
        maker.stop().await;
        words.push_str(&String::from_utf8_lossy(&log().lock().unwrap()[log_from..]));
        (Caught { streams, store, words, bundles }, hidden, shown)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_hidden_is_nowhere_on_the_other_side() {
    log();
    // The same view said in three ways: by naming it, and by taking everything else back by field and by group.
    let others: Vec<&str> = SCHEMA.fields.iter().map(|field| field.name).filter(|name| !SHOWN.contains(name)).collect();
    let never = format!(
        "[[never]]\nname = 'rest'\nwith = 'customer'\nshow = {others:?}\n[[never]]\nname = 'rest of the spy'\nwith = 'spy'\nshow = {others:?}\n"
    );
    let by_never = rules("'everything'", &never);
    let (caught, hidden, shown) = Scene::new().await.run(&[by_name(), by_never, by_name()]).await;
    eprintln!("{} canaries, {} bytes of streams, {} of words", hidden.needles.len(), caught.streams.len(), caught.words.len());

    assert_eq!(hidden.find(&caught.streams), Vec::<&str>::new(), "in the streams");
    assert_eq!(hidden.find_below(caught.store.path()), Vec::<String>::new(), "in the partner's store");
    assert_eq!(hidden.find(caught.words.as_bytes()), Vec::<&str>::new(), "in logs, errors and answers");
    for bundle in &caught.bundles {
        assert_eq!(hidden.find(bundle), Vec::<&str>::new(), "in a bundle");
    }

    // The control: what is shown arrived, as text and as number, wherever it should be.
    let all: Vec<&str> = shown.needles.iter().map(|needle| needle.what.as_str()).collect();
    assert!(
        ["remarks (text)", "quantity (number as tag 4)", "certificate (text)", "remarks (salt)"].iter().all(|what| all.contains(what)),
        "{all:?}"
    );
    assert_eq!(shown.find(&caught.streams), all);
    let stored = shown.find_below(caught.store.path());
    assert!(all.iter().all(|what| stored.iter().any(|found| found.starts_with(what))), "{stored:?}");
    assert_eq!(shown.find(&caught.bundles[0]), all);
    assert_eq!(shown.find(&caught.bundles[2]), all);
    assert!(caught.words.contains("connected"), "the nodes' own log was kept");
    assert!(!shown.find(caught.words.as_bytes()).is_empty(), "the customer is told what it may see");
}

/// The same with one group too many: every search finds it, in every form.
#[tokio::test(flavor = "multi_thread")]
async fn a_leak_is_found() {
    log();
    let leak = format!("{:?}", [&SHOWN[..], &["process", "measurements", "document"]].concat());
    let (caught, hidden, _) = Scene::new().await.run(&[by_name(), rules(&leak, "")]).await;
    let kinds = ["machine (text)", "special_values (number as tag 4)", "other_values (text)", "source (bytes)", "gauge (salt)"];
    let check = |found: &[&str], place: &str| {
        for kind in kinds {
            assert!(found.contains(&kind), "{kind} was overlooked in {place}: {found:?}");
        }
        // What did not leak is not found.
        assert!(!found.iter().any(|what| what.starts_with("inspector") || what.starts_with("commercial")), "{place}: {found:?}");
    };
    check(&hidden.find(&caught.streams), "the streams");
    check(&hidden.find(&caught.bundles[0]), "the bundle for the partner");
    check(&hidden.find(&caught.bundles[2]), "the bundle of the partner");
    let stored = hidden.find_below(caught.store.path());
    check(&stored.iter().map(|found| found.split(" in ").next().unwrap()).collect::<Vec<_>>(), "the store");
    assert!(hidden.find(caught.words.as_bytes()).contains(&"machine (text)"), "in the words");
}
