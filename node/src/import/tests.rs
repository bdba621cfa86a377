//! Whole files, good and bad, as users bring them.

use std::cell::Cell;
use std::io::{BufWriter, Write};

use lotline_schema::kind::inspection::{Limit, Measured};

use super::*;

fn options() -> Options {
    Options { part: Some("P-1".into()), lot: Some("L-1".into()), ..Options::default() }
}

fn import_bytes(bytes: &[u8], options: &Options) -> Result<Import, ImportError> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    read(file.path(), options, &|_, _| ())
}

fn import(text: &str, options: &Options) -> Result<Import, ImportError> {
    import_bytes(text.as_bytes(), options)
}

fn one(text: &str) -> Inspection {
    let mut lots = import(text, &options()).unwrap().lots;
    assert_eq!(lots.len(), 1);
    lots[0].check("2026-11-23T10:00:00Z").unwrap();
    lots.remove(0)
}

/// Faults as their users read them.
fn faults(text: &str, options: &Options) -> Vec<String> {
    match import(text, options) {
        Err(ImportError::Faults(faults)) => faults.0.iter().map(|fault| fault.to_string()).collect(),
        other => panic!("expected faults: {other:?}"),
    }
}

fn values(of: &Inspection, characteristic: usize) -> Vec<String> {
    let shown = |value: &Measured| match value {
        Measured::Number(number, None) => number.to_string(),
        Measured::Number(number, Some(text)) => format!("{number} ({text})"),
        Measured::Good(good) => good.to_string(),
        Measured::Missing => "missing".into(),
    };
    of.characteristics[characteristic].values.iter().map(shown).collect()
}

#[test]
fn a_long_table() {
    let lot = one("serial,characteristic,type,nominal,lsl,usl,unit,value,status,inspected_at\n\
        007,Ø 5,Diameter,5.0,4.9,5.1,mm,5.010,PASS,2017-07-11T09:16:18\n\
        007,Flatness,Flatness,,,0.1,mm,0.02,PASS,2017-07-11T09:16:18\n\
        008,Ø 5,Diameter,5.0,4.9,5.1,mm,5.2,FAIL,2017-07-11T09:20:00\n\
        008,Flatness,Flatness,,,0.1,mm,n/a,,2017-07-11T09:20:00\n");
    assert_eq!(lot.serials, ["007", "008"]);
    assert_eq!(values(&lot, 0), ["5.010", "5.2"]);
    assert_eq!(values(&lot, 1), ["0.02", "missing"]);
    assert_eq!(lot.characteristics[0].stated_good, [Some(true), Some(false)]);
    assert_eq!(lot.characteristics[1].stated_good, [Some(true), None]);
    assert_eq!(lot.characteristics[1].lower, Limit::Natural(lotline_schema::Decimal::whole(0)));
    assert_eq!((lot.inspected_from.as_deref(), lot.inspected_to.as_deref()), (Some("2017-07-11T09:16:18"), Some("2017-07-11T09:20:00")));
}

#[test]
fn a_row_a_part_with_rows_of_limits() {
    let lot = one("Prüfprotokoll\nAuftrag: 4500012345\n\nSeriennummer;Ø 10 [mm];Rundlauf (mm);Sichtprüfung\n\
        Nennmaß;10,0;;\nUTG;9,9;;\nOTG;10,1;0,05;\n\
        A1;10,05;0,01;i.O.\nA2;10,20;-;n.i.O.\nMittelwert;10,125;;\n");
    assert_eq!(lot.serials, ["A1", "A2"]);
    assert_eq!(lot.order.as_deref(), Some("4500012345"));
    assert_eq!(
        lot.characteristics.iter().map(|of| (of.name.as_str(), of.unit.as_deref())).collect::<Vec<_>>(),
        [("Ø 10", Some("mm")), ("Rundlauf", Some("mm")), ("Sichtprüfung", None)]
    );
    assert_eq!(lot.characteristics[0].upper.figure().unwrap().to_string(), "10.1");
    assert_eq!(lot.characteristics[0].stated.unwrap().mean.unwrap().to_string(), "10.125");
    assert_eq!(lot.characteristics[1].lower.kind(), "natural");
    assert_eq!(values(&lot, 1), ["0.01", "missing"]);
    assert_eq!(values(&lot, 2), ["true", "false"]);
}

#[test]
fn a_row_a_characteristic() {
    let lot = one("Pos;Merkmal;Nennmaß;Oberes Abmaß;Unteres Abmaß;Einheit;Teil 1;Teil 2;Cpk\n\
        10;Durchmesser;10;0,1;-0,2;mm;10,05;10,06;1,33\n20;Durchmesser;12;0,1;0;mm;12,05;;\n\nAnzahl Teile;2;;;;;;;\n");
    assert_eq!(lot.serials, ["1", "2"]);
    assert_eq!(
        lot.characteristics.iter().map(|of| (of.position, of.name.as_str())).collect::<Vec<_>>(),
        [(10, "Durchmesser"), (20, "Durchmesser")]
    );
    assert_eq!(lot.characteristics[0].lower.figure().unwrap().to_string(), "9.8");
    assert_eq!(lot.characteristics[0].stated.unwrap().cpk.unwrap().to_string(), "1.33");
    assert_eq!(values(&lot, 1), ["12.05", "missing"]);
}

#[test]
fn one_part_without_serial_is_one_piece() {
    let lot = one("Merkmal|Istwert\nA|1.5\nB|2.5\n");
    assert_eq!(lot.serials, ["1"]);
    let error = import("Merkmal|Istwert\nA|1.5\nA|2.5\n", &options()).unwrap_err();
    assert!(error.to_string().starts_with("no column for the serial, and `A` is there 2 times"), "{error}");
}

#[test]
fn several_lots_and_parts_in_the_order_of_the_file() {
    let text = "Charge;Teil-Nr;Seriennummer;Merkmal;Istwert;Maschine\nB;P;1;M;1;X\nA;P;1;M;2;X\nB;P;2;M;3;Y\nB;Q;1;M;4;X\n";
    let import = import(text, &Options::default()).unwrap();
    let lots: Vec<_> = import.lots.iter().map(|lot| (lot.lot.as_str(), lot.part.as_str(), lot.serials.len())).collect();
    assert_eq!(lots, [("B", "P", 2), ("A", "P", 1), ("B", "Q", 1)]);
    assert_eq!(import.lots[0].machine.as_deref(), Some("X, Y"));
    assert!(import.lots.iter().all(|lot| lot.source.as_ref() == Some(&import.source)));
}

#[test]
fn a_repeated_name_is_legal_if_every_piece_repeats_it() {
    let lot = one("serial,feature,value\n1,D,1\n1,D,2\n1,L,3\n2,D,4\n2,D,5\n2,L,6\n");
    assert_eq!(lot.characteristics.iter().map(|of| (of.position, of.name.as_str())).collect::<Vec<_>>(), [(1, "D"), (2, "D"), (3, "L")]);
    assert_eq!(values(&lot, 1), ["2", "5"]);
    let text = "serial,feature,value\n1,D,1\n1,D,2\n2,D,3\n3,D,5\n3,D,6\n";
    assert_eq!(
        faults(text, &options()),
        [
            "row 4: serials[2]: serial `2` has 1 of 2 `D`: which one is missing cannot be told (give each its own name or position, or write the missing one as empty)"
        ]
    );
}

#[test]
fn a_duplicate_serial_is_a_fault() {
    let text = "serial,feature,value\n1,D,1\n1,L,2\n2,D,4\n2,L,5\n1,D,7\n1,L,8\n";
    assert_eq!(
        faults(text, &options()),
        ["row 6: serials[1]: duplicate serial `1`: `D` is measured again here (2 rows too many) (each piece has its own serial)"]
    );
    let text = "serial,D,L\n1,1,2\n2,4,5\n1,7,8\n";
    assert_eq!(
        faults(text, &options()),
        ["row 4, column 1: serials[1]: duplicate serial `1` (each piece has its own serial and its own row)"]
    );
}

#[test]
fn all_faults_come_at_once_in_the_order_of_the_file() {
    let text = "serial,feature,lsl,usl,unit,value,date\n\
        1,A,5,4,mm,4.5,2017-07-11\n1,B,0,9,furlongs,x,2017-07-11\n1,C,0,zz,N,1,2017-13-11\n1,D,0,1,mm\n1,E,0,1,Mpa,1,2017-07-11\n";
    let found = faults(text, &options());
    let expected = [
        "row 2, column 4: characteristics[1].limits: limits swapped on `A`: lower 5 is above upper 4",
        "row 3, column 5: characteristics[2].unit: unknown unit `furlongs` on `B` (a unit of your own goes under [units]",
        "row 3, column 6: value: `x` is not a number",
        "row 4, column 4: characteristics[3].upper: `zz` of `C` is not a number",
        "row 4, column 7: inspected_at: `2017-13-11` is not a date",
        "row 5: row: the row has 5 cells where the header has 7",
        "row 6, column 5: characteristics[4].unit: unknown unit `Mpa` on `E` (did you mean `MPa`?",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found}\n{expected}");
    }
    let mut text = "serial,feature,value\n".to_owned();
    for serial in 0..300 {
        text += &format!("{serial},A,x\n");
    }
    // The last is the count; the first characteristic has its values, so the file is not simply empty.
    let found = faults(&text, &options());
    assert_eq!((found.len(), found.last().unwrap().as_str()), (201, "file: and 100 more"));
}

#[test]
fn rows_are_counted_as_lines_of_the_file() {
    let text = "title\n\nserial,feature,value,note\n1,A,1,\"two\nlines\"\n\n2,A,zwei,\n";
    assert!(faults(text, &options())[0].starts_with("row 7, column 3: value: `zwei`"));
}

#[test]
fn flags_and_columns_must_agree() {
    let text = "lot,serial,feature,value\nL-1,1,A,1\nL-2,2,A,1\n";
    let error = import(text, &options()).unwrap_err();
    assert!(matches!(&error, ImportError::Contradiction { flag, given, column, found, row: 3 }
        if (flag.as_str(), given.as_str(), column.as_str(), found.as_str()) == ("--lot", "L-1", "lot", "L-2")));
    let text = "Charge: 4711\nSeriennummer;Merkmal;Istwert\n1;A;1\n";
    let error = import(text, &options()).unwrap_err();
    assert!(matches!(error, ImportError::Contradiction { row: 1, .. }), "{error}");
    let lot = import(text, &Options { lot: None, ..options() }).unwrap().lots.remove(0);
    assert_eq!(lot.lot, "4711");
    let text = "serial,feature,value,order\n1,A,1,X\n2,A,1,Y\n";
    assert!(faults(text, &options())[0].starts_with("row 3, column 4: order: `Y`, but row 2 of the same lot says `X`"));
}

#[test]
fn persons_stay_out_unless_asked_for() {
    let text = "serial,feature,value,Prüfer\n1,A,1,Kim\n2,A,1,Lee\n";
    let without = import(text, &options()).unwrap();
    assert_eq!(without.lots[0].inspector, None);
    assert!(without.notes.iter().any(|note| note.contains("persons")), "{:?}", without.notes);
    assert_eq!(import(text, &Options { persons: true, ..options() }).unwrap().lots[0].inspector.as_deref(), Some("Kim, Lee"));
}

#[test]
fn special_characteristics_by_name_or_position() {
    let text = "serial,feature,value,class\n1,A,1,\n1,B,1,\n1,C,1,CC\n";
    let special = |names: &[&str]| Options { special: names.iter().map(|name| name.to_string()).collect(), ..options() };
    let lot = import(text, &special(&["A", "2"])).unwrap().lots.remove(0);
    assert_eq!(
        lot.characteristics.iter().map(|of| of.class.as_deref()).collect::<Vec<_>>(),
        [Some("special"), Some("special"), Some("CC")]
    );
    assert_eq!(faults(text, &special(&["AA"])), ["special: no characteristic `AA` in the file (did you mean `A`?)"]);
}

#[test]
fn a_map_reads_what_we_do_not_know() {
    let text = "Bohrung|x|Kiste|Wert hier\n1|furlong|K1|-200\n2|furlong|K1|3;5\n1|furlong|K2|4\n2|furlong|K2|passt\n";
    assert!(matches!(import(text, &options()).unwrap_err(), ImportError::MissingColumn { .. }));
    let map = r#"
        columns = { "Bohrung" = "characteristic", "x" = "unit", "Kiste" = "serial", "Wert hier" = "value" }
        units = { "furlong" = "furlong" }
        missing = ["-200", "3;5"]
        good = ["passt"]
        delimiter = "|"
    "#;
    let lot = import(text, &Options { map: Some(map.parse().unwrap()), ..options() }).unwrap().lots.remove(0);
    assert_eq!(lot.serials, ["K1", "K2"]);
    assert_eq!(lot.characteristics[0].unit.as_deref(), Some("furlong"));
    assert_eq!((values(&lot, 0), values(&lot, 1)), (vec!["missing".to_owned(), "4".into()], vec!["missing".to_owned(), "true".into()]));
}

#[test]
fn empty_files_and_headers_alone() {
    assert_eq!(import("", &options()).unwrap_err().to_string(), "the file is empty");
    assert_eq!(import("\n \n", &options()).unwrap_err().to_string(), "the file is empty");
    let error = import("serial,characteristic,value\n\n", &options()).unwrap_err();
    assert_eq!(error.to_string(), "the file has a header (row 1) and no value below it");
}

#[test]
fn encodings_that_are_none() {
    assert!(matches!(
        import_bytes(b"\xff\xfes\0\xd8\x00\xd8", &options()),
        Err(ImportError::Encoding { .. } | ImportError::TruncatedInside { .. })
    ));
    assert!(matches!(import_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", &options()), Err(ImportError::Encoding { .. })));
    assert!(import_bytes("serial,feature,value\n1,ä,1\n".as_bytes(), &options()).is_ok());
    assert!(matches!(
        import_bytes(b"serial,feature,value\n1,\xc3\xa4,1\n2,\xe4,1\n", &options()),
        Err(ImportError::Encoding { row: 3, .. })
    ));
}

#[test]
fn a_file_cut_in_the_middle() {
    let whole = "serial,feature,value,unit\n1,A,1,mm\n1,B,2,mm\n2,A,3,mm\n2,B,4,\"mm\"\n";
    let cut = |bytes: usize| import(&whole[..bytes], &options());
    assert!(matches!(cut(whole.len() - 9), Err(ImportError::TruncatedInside { row: 5, .. })));
    assert!(matches!(cut(whole.len() - 2), Err(ImportError::TruncatedInside { row: 5, .. })), "an open quote");
    // Cut between rows: the second piece lacks a value, which the notes say and the verdict counts.
    let short = cut(whole.len() - 11).unwrap();
    assert!(short.notes.iter().any(|note| note.contains("`2` has 1 of 2")), "{:?}", short.notes);
    let utf16: Vec<u8> = [0xff, 0xfe].into_iter().chain(whole.encode_utf16().flat_map(u16::to_le_bytes)).collect();
    assert!(import_bytes(&utf16, &options()).is_ok());
    assert!(matches!(import_bytes(&utf16[..(utf16.len() / 2) | 1], &options()), Err(ImportError::TruncatedInside { .. })));
}

#[test]
fn footers_and_a_missing_value_below_a_blank_row() {
    let text = "serial,feature,unit,value\n1,A,mm,1\n\n2,A,,\n\nchecked,20\nAnzahl Teile,2,,\n";
    let import = import(text, &options()).unwrap();
    assert_eq!(values(&import.lots[0], 0), ["1", "missing"]);
    assert!(import.notes.iter().any(|note| note.contains("left out: rows 6, 7")), "{:?}", import.notes);
}

#[test]
fn a_decimal_comma_in_a_comma_file_is_not_shifted() {
    let found = faults("serial,feature,value\n1,A,1,5\n2,A,1\n", &options());
    assert!(found[0].starts_with("row 2, column 4: row: the row has 4 cells where the header has 3"), "{found:?}");
}

#[test]
fn columns_mixed_up_do_not_fill_the_memory() {
    let mut text = "serial,feature,value\n".to_owned();
    for row in 0..20_000 {
        text += &format!("{row},{row}x,1\n");
    }
    let error = import(&text, &options()).unwrap_err();
    assert!(matches!(error, ImportError::Dialect { .. }), "{error}");
}

#[test]
fn too_many_lots_are_refused() {
    let mut text = "lot,serial,feature,value\n".to_owned();
    for row in 0..10_100 {
        text += &format!("{row},{row},A,1\n");
    }
    assert!(matches!(import(&text, &Options { lot: None, ..options() }), Err(ImportError::TooManyLots { row: 10_002, .. })));
}

/// 200 MB, mostly comments; what is kept are 20,000 values. Linux only: there /proc tells the memory in use.
#[test]
#[cfg(target_os = "linux")]
fn a_large_file_is_read_in_bounded_memory() {
    const ROWS: u64 = 20_000;
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut out = BufWriter::new(&file);
    out.write_all(b"serial,feature,value,note\n").unwrap();
    let note = "no remark; ".repeat(910);
    for row in 0..ROWS {
        writeln!(out, "{},F{},{}.{:03},{note}", row / 10, row % 10, row % 7, row % 1000).unwrap();
    }
    out.flush().unwrap();
    let bytes = file.as_file().metadata().unwrap().len();
    assert!(bytes > 200_000_000, "{bytes}");
    let resident = || {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
    };
    let (before, peak, last) = (resident(), Cell::new(0), Cell::new((0, 0)));
    let import = read(file.path(), &options(), &|done, of| {
        peak.set(peak.get().max(resident()));
        last.set((done, of));
    })
    .unwrap();
    assert_eq!((import.lots[0].serials.len(), import.lots[0].characteristics.len()), (2000, 10));
    assert_eq!(last.get(), (bytes, bytes));
    let grown = peak.get().saturating_sub(before);
    assert!(grown < 64 << 20, "grew by {} MiB", grown >> 20);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(300))]
    /// Whatever happened to a file on its way, it is imported or refused; nothing panics.
    #[test]
    fn damaged_files_never_panic(
        table in 0usize..3,
        cut in 0usize..400,
        changes in proptest::collection::vec((0usize..400, proptest::prelude::any::<u8>()), 0..6),
        words in proptest::collection::vec((0usize..400, "[0-9;,.\"\n\ta-zµ#=:/+-]{1,12}"), 0..3),
    ) {
        let mut bytes = [
            "Charge: 1\nserial,feature,type,nominal,lsl,usl,unit,value,status,date\n1,A,Flatness,,,0.1,mm,0.02,PASS,11.07.2017 09:16\n2,A,Flatness,,,0.1,mm,1e3,NOK,2017-07-11\n",
            "sep=;\nSeriennummer;Ø 10 [mm];Cpk\nUTG;9,5;\nA1;10,05;\"x\ny\"\nA2;1.000,5;-\n\nEnde;1\n",
            "Pos|Merkmal|Nennmaß|+Tol|-Tol|Teil 1|Teil 2\n1|D|10|0.1|0.2|10.05|ok\n2|D|5|0.1|0.2|5|\n",
        ][table].as_bytes().to_vec();
        for (at, text) in words {
            let at = at.min(bytes.len());
            bytes.splice(at..at, text.into_bytes());
        }
        for (at, byte) in changes {
            if let Some(old) = bytes.get_mut(at) {
                *old = byte;
            }
        }
        bytes.truncate(bytes.len().saturating_sub(cut.saturating_sub(300)));
        if let Ok(import) = import_bytes(&bytes, &options()) {
            for lot in &import.lots {
                let _ = lot.check("2026-11-23T10:00:00Z");
            }
        }
    }
}
