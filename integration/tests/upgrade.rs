//! Stores that programs wrote before this one, as they left them (integration/fixtures/stores): each opens, shows what it showed, holds
//! under an audit, and is published to.
// The exception for tests covers only functions marked #[test], not what they share.
#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::path::Path;

use lotline_integration::world::{Firm, World, lots_file, string, text};
use lotline_node::config::{Config, Home};
use lotline_node::keys::Founding;
use lotline_node::store::{Options, Store};

/// The size and root of the data feed in every one of them: an entry that opens it, and three lots.
const HEAD: (u64, &str) = (4, "8bd87f0b7f9ec28e043872ce5bf72743fa10e27cbecf7031b34fbcfd43590c59");

/// A home around a stored journal: its keys follow from a published name, and it counts as written on this computer.
fn home_with(world: &World, format: &str) -> Firm {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/stores").join(format);
    let firm = Firm::at(&world.path(format));
    let home = Home::at(Some(firm.home())).unwrap();
    Founding::example("supplier").unwrap().write(&home.keys()).unwrap();
    home.write_config(&Config::new("Example supplier")).unwrap();
    let journal = home.store().join("journal");
    fs::create_dir_all(&journal).unwrap();
    let mut names: Vec<_> = fs::read_dir(&kept).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    for name in &names {
        fs::copy(kept.join(name), journal.join(name)).unwrap();
    }
    // The zeros behind the last commit are left out of the files that are kept.
    let last = names.iter().rfind(|name| name.to_string_lossy().ends_with(".seg")).unwrap();
    File::options().write(true).open(journal.join(last)).unwrap().set_len(Options::default().segment_bytes).unwrap();
    let (mut store, opened) = Store::open(&home.store(), Options::default(), &|_| {}).unwrap();
    assert!(opened.restored.is_some() && opened.damage.is_empty() && opened.torn_tail_bytes == 0, "{opened:?}");
    store.confirm_restored().unwrap();
    store.close().unwrap();
    firm
}

fn opens(format: &str, forgotten: bool) {
    let world = World::new();
    let firm = home_with(&world, format);
    let heads = firm.heads();
    assert_eq!(heads.iter().map(|(_, size, root)| (*size, root.as_str())).collect::<Vec<_>>(), [HEAD]);
    assert_eq!(firm.records().len(), 3);
    assert_eq!(firm.field("L-1", "other_verdicts"), "shown");
    assert_eq!(firm.field("L-2", "other_verdicts"), if forgotten { "forgotten" } else { "shown" });
    let status = firm.ok(&["status"]);
    assert_eq!((&status["policy"]["version"], &status["partners"][0]["name"]), (&1.into(), &"oem-a".into()), "{status}");
    let rows = firm.ledger("oem-a");
    assert_eq!(rows.iter().map(|row| string(&row["outcome"])).collect::<Vec<_>>(), ["exported"; 3]);
    firm.is_clean();

    firm.publish(&world.file("more.csv", lots_file("NEW", "P-1", 2)), &["--feed", "quality"]);
    assert_eq!(firm.records().len(), 5);
    let bundle = text(&world.path("l-1.lotline"));
    firm.ok(&["bundle", "--lot", "L-1", "--full", "an auditor", "--yes", "-o", &bundle]);
    let verified = world.verify(&bundle, &["--issuer", &firm.identity()]);
    assert_eq!(verified.code, 0, "{}", verified.out);
    firm.is_clean();
}

#[test]
fn a_store_of_the_first_format_opens_and_goes_on() {
    opens("format-1", false);
}

#[test]
fn a_store_in_which_something_was_forgotten_opens_and_goes_on() {
    opens("format-2", true);
}
