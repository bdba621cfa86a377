//! How large it gets: one node that follows many suppliers, and one that serves many customers, as a table.
//!
//! `cargo build --release -p lotline-node -p lotline-integration`, then `target/release/load in 1000 3`: suppliers, and records of each; or
//! `target/release/load out 100 1000`: customers, and records that are published.

use std::io::Write as _;
use std::time::Duration;

use lotline_integration::load::{Used, fan_in, fan_out};

/// How long the partners are left alone: a few pings of each.
const IDLE: Duration = Duration::from_secs(45);

fn main() -> std::io::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default: usize| args.get(at).map_or(default, |text| text.parse().expect("a number"));
    let mut out = std::io::stdout();
    match args.first().map(String::as_str) {
        Some("in") => {
            let (suppliers, records) = (number(1, 1000), number(2, 3));
            let found = fan_in(suppliers, records, IDLE);
            writeln!(out, "one node follows {suppliers} suppliers, {records} records each\n")?;
            writeln!(out, "alone                             {:>8.1} MiB", mebibytes(found.alone))?;
            show(&mut out, "all connected and caught up", &found.catching_up)?;
            show(&mut out, "all idle", &found.idle)?;
            writeln!(
                out,
                "\n{} records here, {} feeds not whole, {} connections beyond one each",
                found.records.len(),
                found.missing,
                found.again
            )
        }
        Some("out") => {
            let (customers, records) = (number(1, 100), number(2, 1000));
            let found = fan_out(customers, records);
            writeln!(out, "one node serves {customers} customers, {records} records are published\n")?;
            show(&mut out, "all connected", &found.connecting)?;
            show(&mut out, "all have every record", &found.publishing)?;
            let delivered = (customers * records) as f64 / found.publishing.wall.as_secs_f64();
            writeln!(out, "\n{delivered:.0} records delivered a second; each customer got {:?} entries", found.entries)
        }
        _ => writeln!(out, "load in [SUPPLIERS] [RECORDS] | load out [CUSTOMERS] [RECORDS]"),
    }
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn show(out: &mut impl std::io::Write, what: &str, used: &Used) -> std::io::Result<()> {
    let (wall, cpu) = (used.wall.as_secs_f64(), used.cpu.as_secs_f64());
    writeln!(out, "{what:<30}    {:>8.1} MiB  {wall:>7.1} s  {cpu:>7.1} s of CPU", mebibytes(used.memory))
}
