//! What a column can mean, and the headers by which people write it in English and German.

/// The meaning of a column, a banner line, or a labelled row.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[rustfmt::skip]
pub(super) enum Meaning {
    // Of the lot.
    Lot, Part, CustomerPart, Revision, PartName, Drawing, Customer, Order, DeliveryNote, Operation, Reason, Sample,
    Site, Standard, Machine, Gauge, Program, Environment, Inspector,
    // Of the piece and the value.
    Serial, Value, Status, Date, Time,
    // Of the characteristic.
    Characteristic, Position, Feature, Class, Unit, Nominal, Lower, Upper, LowerTolerance, UpperTolerance,
    N, Mean, S, Min, Max, Cp, Cpk, Pp, Ppk,
    /// A running number of something: pieces or characteristics, as its values show.
    Counter,
    /// A characteristic of its own, in a table with a row a part.
    Measured,
    /// Left out, by order of the map.
    Ignore,
}

use Meaning::*;

/// Meanings with their name in a map, and headers folded by [`fold`]: the likelier first.
#[rustfmt::skip]
const WORDS: &[(Meaning, &str, &[&str])] = &[
    (Lot, "lot", &["lot", "lotno", "lotnumber", "lotid", "lotnr", "batch", "batchno", "batchnumber", "batchid", "batchnr", "batchlot",
        "lotbatch", "charge", "chargennr", "chargennummer", "chargenr", "chargeno", "los", "losnr", "losnummer", "losid", "fertigungslos",
        "prueflos", "prueflosnr", "partie", "heat", "heatno", "heatnumber", "schmelze", "schmelzennr", "schmelzenummer"]),
    (Part, "part", &["part", "partno", "partnumber", "partnr", "partid", "pn", "teilenummer", "teilenr", "teilnr", "teilnummer", "sachnummer",
        "sachnr", "materialnummer", "materialnr", "materialno", "materialnumber", "article", "articleno", "articlenumber", "artikel",
        "artikelnr", "artikelnummer", "item", "itemno", "itemnumber", "bauteilnr", "bauteilnummer", "manufacturerpartid"]),
    (CustomerPart, "customer_part", &["customerpart", "customerpartno", "customerpartnumber", "customerpartid", "kundenteilenummer",
        "kundenteilenr", "kundenteilnr", "kundensachnummer", "kundensachnr", "kundenartikelnummer", "kundenmaterialnummer"]),
    (Revision, "revision", &["revision", "rev", "revisionno", "partrevision", "revisionlevel", "revlevel", "aenderungsindex",
        "aenderungsstand", "revisionsstand", "zeichnungsindex"]),
    (PartName, "part_name", &["partname", "partdescription", "teilebezeichnung", "teilbezeichnung", "teilename", "teilname", "benennung",
        "artikelbezeichnung", "productname", "itemdescription"]),
    (Drawing, "drawing", &["drawing", "drawingno", "drawingnumber", "zeichnung", "zeichnungsnr", "zeichnungsnummer", "zeichnungnr"]),
    (Customer, "customer", &["customer", "customername", "kunde", "kundenname"]),
    (Order, "order", &["order", "orderno", "ordernumber", "workorder", "workorderno", "productionorder", "jobno", "jobnumber", "auftrag",
        "auftragsnr", "auftragsnummer", "fertigungsauftrag", "fertigungsauftragsnr", "bestellung", "bestellnr", "bestellnummer", "ponumber"]),
    (DeliveryNote, "delivery_note", &["deliverynote", "deliverynoteno", "deliverynotenumber", "lieferschein", "lieferscheinnr",
        "lieferscheinnummer"]),
    (Operation, "operation", &["operation", "operationno", "op", "opno", "arbeitsgang", "arbeitsfolge", "arbeitsvorgang", "processstep"]),
    (Reason, "reason", &["reason", "reasonfortest", "inspectiontype", "pruefgrund", "anlass", "pruefanlass", "pruefart"]),
    (Sample, "sample", &["sample", "sampleno", "samplenumber", "sampleid", "stichprobe", "stichprobennr", "stichprobennummer", "muster",
        "musternr", "musternummer", "subgroup", "untergruppe"]),
    (Site, "site", &["site", "plant", "werk", "standort"]),
    (Standard, "standard", &["standard", "norm", "pruefnorm"]),
    (Machine, "machine", &["machine", "machineno", "machineid", "maschine", "maschinennr", "maschinennummer", "anlage", "equipment"]),
    (Gauge, "gauge", &["gauge", "gage", "gaugeid", "gageid", "gaugeno", "instrument", "measuringdevice", "measuringequipment", "cmm",
        "messmittel", "messmittelnr", "pruefmittel", "pruefmittelnr", "messgeraet", "messmaschine"]),
    (Program, "program", &["program", "programme", "programm", "measuringprogram", "messprogramm", "pruefprogramm", "ncprogramm"]),
    (Environment, "environment", &["environment", "umgebung", "umgebungsbedingungen", "raumtemperatur"]),
    (Inspector, "inspector", &["inspector", "operator", "inspectedby", "measuredby", "pruefer", "prueferin", "geprueftvon", "gemessenvon",
        "bediener", "werker", "mitarbeiter", "worker", "technician"]),
    (Serial, "serial", &["serial", "serialno", "serialnumber", "serialnr", "serialid", "seriennummer", "seriennr", "sn", "snr", "dmc",
        "piece", "pieceno", "piecenumber", "pieceid", "partserial", "partserialnumber", "partinstanceid", "stuecknr", "stuecknummer",
        "werkstuecknr", "werkstuecknummer", "werkstueck", "pruefling", "prueflingnr", "prueflingsnr", "specimen", "specimenno", "unitid"]),
    (Value, "value", &["value", "measuredvalue", "measurementvalue", "measured", "measurement", "actualvalue", "actual", "act", "reading",
        "observed", "observation", "resultvalue", "messwert", "istwert", "istmass", "ist", "messergebnis", "wert"]),
    (Status, "status", &["status", "passfail", "verdict", "result", "ergebnis", "bewertung", "judgement", "judgment", "evaluation", "oknok",
        "ok", "io", "ionio", "pass", "conformity", "conform", "beurteilung", "urteil", "entscheid", "befund", "gutschlecht"]),
    (Date, "inspected_at", &["inspectedat", "measuredat", "inspectiondate", "measurementdate", "testdate", "measurementtimestamp",
        "datetime", "dateandtime", "timestamp", "date", "pruefdatum", "messdatum", "pruefzeitpunkt", "messzeitpunkt", "zeitstempel",
        "datumuhrzeit", "datumzeit", "datum"]),
    (Time, "time", &["time", "measurementtime", "uhrzeit", "messzeit", "zeit"]),
    (Characteristic, "characteristic", &["characteristic", "characteristicname", "charname", "characteristics", "feature", "featurename",
        "merkmal", "merkmale", "merkmalsname", "merkmalname", "merkmalbezeichnung", "merkmalsbezeichnung", "pruefmerkmal", "char",
        "dimension", "dimensionname", "parameter", "parametername", "property", "testname", "description", "bezeichnung", "name"]),
    (Position, "position", &["position", "pos", "posno", "posnr", "positionsnr", "characteristicno", "characteristicnumber", "charno",
        "featureno", "featurenumber", "merkmalnr", "merkmalsnr", "merkmalsnummer", "balloon", "balloonno", "bubble", "stempel", "stempelnr"]),
    (Feature, "feature", &["featuretype", "characteristictype", "chartype", "type", "merkmalsart", "merkmalart", "merkmalstyp",
        "merkmaltyp", "art", "typ"]),
    (Class, "class", &["class", "characteristicclass", "classification", "criticality", "specialcharacteristic", "merkmalsklasse",
        "merkmalklasse", "klasse", "klassifizierung", "besonderesmerkmal", "cc", "sc"]),
    (Unit, "unit", &["unit", "units", "uom", "unitofmeasure", "einheit", "masseinheit"]),
    (Nominal, "nominal", &["nominal", "nominalvalue", "nom", "target", "targetvalue", "sollwert", "soll", "sollmass", "nennmass", "nennwert",
        "nominalwert", "zielwert"]),
    (Lower, "lower", &["lsl", "lower", "lowerlimit", "lowerspec", "lowerspeclimit", "lowerspecificationlimit", "lowerbound", "ltl", "lowertolerancelimit",
        "utg", "usg", "ugw", "ut", "unteregrenze", "untergrenze", "unterergrenzwert", "unteretoleranzgrenze", "unterespezifikationsgrenze",
        "unterespezgrenze", "untererspezifikationsgrenzwert", "mindestmass", "kleinstmass", "mindestwert"]),
    (Upper, "upper", &["usl", "upper", "upperlimit", "upperspec", "upperspeclimit", "upperspecificationlimit", "upperbound", "utl", "uppertolerancelimit",
        "otg", "osg", "ogw", "ot", "oberegrenze", "obergrenze", "oberergrenzwert", "oberetoleranzgrenze", "oberespezifikationsgrenze",
        "oberespezgrenze", "obererspezifikationsgrenzwert", "hoechstmass", "groesstmass", "hoechstwert"]),
    (LowerTolerance, "lower_tolerance", &["lowertolerance", "lowertol", "lowerallowance", "lowerdeviation", "minustol", "minustolerance",
        "unteretoleranz", "unteretol", "unteresabmass", "untereabweichung", "abmassunten", "toleranzunten"]),
    (UpperTolerance, "upper_tolerance", &["uppertolerance", "uppertol", "upperallowance", "upperdeviation", "+tol", "tol+", "+tolerance",
        "plustol", "plustolerance", "oberetoleranz", "oberetol", "oberesabmass", "obereabweichung", "abmassoben", "toleranzoben"]),
    (N, "n", &["n", "count", "samplesize", "anzahl", "anzahlwerte", "stichprobenumfang"]),
    (Mean, "mean", &["mean", "average", "avg", "xbar", "mittelwert", "xquer", "mittel"]),
    (S, "s", &["s", "sd", "stdev", "stddev", "standarddeviation", "sigma", "standardabweichung", "stabw"]),
    (Min, "min", &["min", "minimum", "minwert", "kleinsterwert"]),
    (Max, "max", &["max", "maximum", "maxwert", "groessterwert"]),
    (Cp, "cp", &["cp", "cpwert"]),
    (Cpk, "cpk", &["cpk", "cpkwert"]),
    (Pp, "pp", &["pp", "ppwert"]),
    (Ppk, "ppk", &["ppk", "ppkwert"]),
    (Counter, "counter", &["no", "nr", "num", "number", "nummer", "id", "#", "index", "lfdnr", "laufendenummer", "laufnr", "laufnummer", "teil",
        "stueck", "messung", "messungnr", "measurementno", "messnr", "probe", "probennr", "probenr", "run"]),
    (Measured, "measured", &[]),
    (Ignore, "ignore", &[]),
];

impl Meaning {
    /// The meaning a header has, and how far down the list of its headers: less is likelier.
    pub(super) fn of(header: &str) -> Option<(Meaning, usize)> {
        let header = fold(header);
        WORDS.iter().find_map(|(meaning, _, words)| Some((*meaning, words.iter().position(|word| *word == header)?)))
    }

    /// The meaning a map names.
    pub(super) fn named(name: &str) -> Option<Meaning> {
        WORDS.iter().find(|(meaning, known, _)| *known == name && *meaning != Counter).map(|(meaning, ..)| *meaning)
    }

    /// Its name in a map.
    pub(super) fn name(self) -> &'static str {
        WORDS.iter().find(|(meaning, ..)| *meaning == self).map_or("", |(_, name, _)| name)
    }

    /// Every name a map may use.
    pub(super) fn names() -> impl Iterator<Item = &'static str> {
        WORDS.iter().filter(|(meaning, ..)| *meaning != Counter).map(|(_, name, _)| *name)
    }

    /// Whether it is a fact of the lot, not of one piece or characteristic.
    pub(super) fn is_of_lot(self) -> bool {
        self <= Inspector
    }

    /// Whether a lot may have several, one after the other.
    pub(super) fn may_vary(self) -> bool {
        matches!(self, Machine | Gauge | Program | Environment | Inspector)
    }

    /// Whether it specifies a characteristic.
    pub(super) fn specifies(self) -> bool {
        (Feature..=UpperTolerance).contains(&self)
    }

    /// Whether it is a statistic that somebody states.
    pub(super) fn is_statistic(self) -> bool {
        (N..=Ppk).contains(&self)
    }
}

/// A header without case, umlauts, punctuation, and a unit in brackets.
fn fold(header: &str) -> String {
    let header = split_unit(header).0;
    let mut folded = String::new();
    for letter in header.chars().flat_map(char::to_lowercase) {
        match letter {
            'ä' => folded.push_str("ae"),
            'ö' => folded.push_str("oe"),
            'ü' => folded.push_str("ue"),
            'ß' => folded.push_str("ss"),
            letter if letter.is_alphanumeric() || matches!(letter, '#' | '+') => folded.push(letter),
            _ => {}
        }
    }
    if folded == "tol" && header.contains('-') { "minustol".into() } else { folded }
}

/// `Torque [Nm]` is `Torque` in `Nm`; brackets that hold no unit we know stay part of the name.
pub(super) fn split_unit(header: &str) -> (&str, Option<&str>) {
    let header = header.trim();
    for (open, close) in [('[', ']'), ('(', ')')] {
        if let Some((name, unit)) = header.strip_suffix(close).and_then(|rest| rest.rsplit_once(open))
            && !unit.trim().is_empty()
            && lotline_schema::unit::known(unit)
        {
            return (name.trim(), Some(unit.trim()));
        }
    }
    (header, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_recognised() {
        #[rustfmt::skip]
        let cases = [
            ("Serial No.", Serial), ("Seriennummer", Serial), ("Part No", Part), ("Teil-Nr.", Part), ("LOT-Nr.", Lot), ("Chargen-Nr.", Lot),
            ("Merkmal", Characteristic), ("Char. Name", Characteristic), ("feature_type", Feature), ("Merkmalsart", Feature), ("Messwert [mm]", Value),
            ("Istwert", Value), ("Nennmaß", Nominal), ("Sollwert", Nominal), ("LSL", Lower), ("UGW", Lower), ("untere Grenze", Lower), ("OTG", Upper),
            ("Obere Spezifikationsgrenze", Upper), ("UoM", Unit), ("Einheit", Unit), ("i.O. / n.i.O.", Status), ("Ergebnis", Status), ("Prüfdatum", Date),
            ("inspected_at", Date), ("Prüfer", Inspector), ("Messmittel-Nr.", Gauge), ("+Tol", UpperTolerance), ("-Tol", LowerTolerance),
            ("Oberes Abmaß", UpperTolerance), ("Mittelwert", Mean), ("Cpk", Cpk), ("lfd. Nr.", Counter), ("Kunden-Teilenummer", CustomerPart),
        ];
        for (header, meaning) in cases {
            assert_eq!(Meaning::of(header).map(|(meaning, _)| meaning), Some(meaning), "{header}");
        }
        for unknown in ["CO(GT)", "Tool type (German)", "a", "", "Teil 1", "Length 3", "note"] {
            assert_eq!(Meaning::of(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn no_header_has_two_meanings() {
        let all: Vec<&str> = WORDS.iter().flat_map(|(_, _, words)| words.iter().copied()).collect();
        for word in &all {
            assert_eq!(all.iter().filter(|other| *other == word).count(), 1, "{word}");
        }
    }

    #[test]
    fn a_unit_in_the_header_is_split_off() {
        assert_eq!(split_unit("Torque [Nm]"), ("Torque", Some("Nm")));
        assert_eq!(split_unit("Ø 10 (mm)"), ("Ø 10", Some("mm")));
        assert_eq!(split_unit("CO(GT)"), ("CO(GT)", None));
    }
}
