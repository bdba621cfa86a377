//! Fan-in and fan-out in small: everything arrives at everybody, once. The program `load` has the large numbers.

use std::collections::BTreeSet;
use std::time::Duration;

use lotline_integration::load::{fan_in, fan_out};

#[test]
fn every_record_of_fifty_suppliers_arrives_once() {
    let found = fan_in(50, 3, Duration::ZERO);
    assert_eq!(found.missing, 0);
    assert_eq!(found.records.len(), 50 * 3);
    assert_eq!(found.records.iter().collect::<BTreeSet<_>>().len(), 50 * 3);
}

#[test]
fn every_record_reaches_ten_customers_once() {
    let found = fan_out(10, 20);
    assert_eq!(found.entries, BTreeSet::from([1 + 1 + 20]));
}
