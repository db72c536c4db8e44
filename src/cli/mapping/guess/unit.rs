//! Units as headers write them, to UCUM.

const UNITS: [(&str, &str); 34] = [
    ("degc", "Cel"),
    ("deg c", "Cel"),
    ("°c", "Cel"),
    ("c", "Cel"),
    ("degf", "[degF]"),
    ("deg f", "[degF]"),
    ("°f", "[degF]"),
    ("k", "K"),
    ("w/m^2", "W/m2"),
    ("w/m2", "W/m2"),
    ("w/m²", "W/m2"),
    ("%", "%"),
    ("mbar", "mbar"),
    ("hpa", "hPa"),
    ("kpa", "kPa"),
    ("pa", "Pa"),
    ("m/s", "m/s"),
    ("km/h", "km/h"),
    ("mph", "[mi_i]/h"),
    ("deg", "deg"),
    ("deg from n", "deg"),
    ("deg/s", "deg/s"),
    ("vdc", "V"),
    ("v", "V"),
    ("a", "A"),
    ("kwh", "kW.h"),
    ("g", "[g]"),
    ("m/s^2", "m/s2"),
    ("ut", "uT"),
    ("s", "s"),
    ("ms", "ms"),
    ("m", "m"),
    ("mm", "mm"),
    ("ppm", "[ppm]"),
];

/// The UCUM text of a unit, where it is known.
pub(super) fn ucum(text: &str) -> Option<&'static str> {
    let text = text.trim().to_lowercase();
    UNITS
        .into_iter()
        .find(|(known, _)| *known == text)
        .map(|(_, ucum)| ucum)
}

/// What a header says in brackets at its end.
pub(super) fn in_header(name: &str) -> Option<&str> {
    let name = name.trim();
    let (open, inner) = match name.strip_suffix(']') {
        Some(inner) => ('[', inner),
        None => ('(', name.strip_suffix(')')?),
    };
    inner.rsplit_once(open).map(|(_, unit)| unit)
}
