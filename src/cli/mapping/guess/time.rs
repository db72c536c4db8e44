//! Which columns tell the time.

use jiff::fmt::strtime::BrokenDownTime;

use super::{
    Guess,
    column::{Column, Kind},
    quoted,
};
use crate::proto::convert::parse_time;

const FORMATS: [&str; 11] = [
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y%m%d %H:%M:%S%.f",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%dT%H:%M",
    "%Y-%m-%d",
    "%Y/%m/%d %H:%M:%S%.f",
    "%Y/%m/%d",
    "%d.%m.%Y %H:%M:%S%.f",
    "%d.%m.%Y %H:%M",
    "%m/%d/%Y %H:%M:%S%.f",
];
/// 2000-01-01 to 2100-01-01 in seconds.
const PLAUSIBLE: std::ops::Range<i64> = 946_684_800..4_102_444_800;
const UNITS: [(&str, i64); 4] = [
    ("unix_seconds", 1),
    ("unix_millis", 1_000),
    ("unix_micros", 1_000_000),
    ("unix_nanos", 1_000_000_000),
];

/// The lines of `[time]` and of `[source_time]`, which take their columns out of the guess.
pub(super) fn tables(guess: &mut Guess<'_>) -> String {
    if let Some(table) = from_fields(guess) {
        return table;
    }
    let mut text = String::new();
    for table in ["time", "source_time"] {
        let found = guess
            .free()
            .find_map(|column| Some((column.name, format_of(column)?)));
        let Some((name, format)) = found else { break };
        guess.take(name);
        text += &format!(
            "\n[{table}]\ncolumn = {}\nformat = {}\n",
            quoted(name),
            quoted(&format)
        );
        if format.contains('%') && !format.contains("%:z") {
            text +=
                "# UTC is assumed; name the zone of local times:\n# zone = \"America/New_York\"\n";
        }
        guess.daily |= format.contains("%d") && !format.contains("%H");
    }
    leave_out_other_times(guess);
    if text.is_empty() {
        from_start(guess)
    } else {
        text
    }
}

fn leave_out_other_times(guess: &mut Guess<'_>) {
    let others = guess.free().filter(|column| format_of(column).is_some());
    for name in others.map(|column| column.name).collect::<Vec<_>>() {
        guess.leave_out(name, "another time");
    }
}

/// The format of a column of times.
fn format_of(column: &Column<'_>) -> Option<String> {
    if column.kind == Kind::Integer {
        return unix_format(column);
    }
    let zoned = |text: &str| text.contains(['-', ':']) && parse_time(text).is_ok();
    if column.kind == Kind::Text && column.all(zoned) {
        return Some("rfc3339".to_owned());
    }
    let fits = |format: &&str| column.all(|text| BrokenDownTime::parse(format, text).is_ok());
    let found = (column.kind == Kind::Text).then(|| FORMATS.into_iter().find(fits));
    found.flatten().map(str::to_owned)
}

fn unix_format(column: &Column<'_>) -> Option<String> {
    let looks = ["time", "ts", "date", "epoch", "stamp", "utc", "unix"];
    let named = column
        .slug
        .split('_')
        .any(|word| looks.iter().any(|look| word.ends_with(look)));
    let fits = |per_second: i64| {
        column.all(|text| {
            text.parse::<i64>()
                .is_ok_and(|n| PLAUSIBLE.contains(&(n / per_second)))
        })
    };
    let found = UNITS
        .into_iter()
        .find(|(_, per_second)| named && fits(*per_second));
    found.map(|(name, _)| name.to_owned())
}

/// Year, month, day and the like in columns of their own.
fn from_fields(guess: &mut Guess<'_>) -> Option<String> {
    let mut text = "\n[time]\n".to_owned();
    let year = guess.find(&["year", "yyyy"])?;
    let month_day = guess.find(&["month", "mm"]).zip(guess.find(&["day", "dd"]));
    let day_of_year = guess.find(&["day_of_year", "doy", "yday", "jday", "julian_day"]);
    let mut fields = vec![("year", year)];
    match (month_day, day_of_year) {
        (Some((month, day)), other) => {
            fields.extend([("month", month), ("day", day)]);
            other.inspect(|other| guess.leave_out(other, "the same day as month and day"));
        }
        (None, Some(day)) => fields.push(("day_of_year", day)),
        (None, None) => return None,
    }
    match (guess.find(&["hour", "hh"]), hhmm(guess)) {
        (Some(hour), _) => {
            fields.push(("hour", hour));
            fields.extend(guess.find(&["minute", "min"]).map(|name| ("minute", name)));
            fields.extend(guess.find(&["second", "sec"]).map(|name| ("second", name)));
        }
        (None, Some(hhmm)) => fields.push(("hhmm", hhmm)),
        (None, None) => {}
    }
    for (field, name) in fields {
        guess.take(name);
        text += &format!("{field} = {}\n", quoted(name));
    }
    Some(text + "# UTC is assumed; name the zone or offset of local times:\n# zone = \"-07:00\"\n")
}

/// An integer 0 to 2359 whose last two digits are minutes.
fn hhmm<'s>(guess: &Guess<'s>) -> Option<&'s str> {
    let named = [
        "hhmm", "time", "mst", "utc", "gmt", "est", "pst", "cst", "cet", "lst",
    ];
    let is_clock = |text: &str| text.parse::<u32>().is_ok_and(|n| n < 2400 && n % 100 < 60);
    let found = guess
        .free()
        .find(|column| column.named(&named) && column.all(is_clock));
    found.map(|column| column.name)
}

/// Seconds since a start that the file does not tell.
fn from_start(guess: &mut Guess<'_>) -> String {
    let names = ["time", "t", "seconds", "elapsed", "elapsed_s", "time_s"];
    let column = guess
        .free()
        .find(|column| column.named(&names) && column.is_numeric());
    let Some(name) = column.map(|column| column.name) else {
        return "\n# No column tells the time: the server stamps the records as they come.\n"
            .to_owned();
    };
    guess.take(name);
    format!(
        "\n[time]\ncolumn = {}\nformat = \"seconds\"\n# The file does not tell when it began: put the true start here.\nsince = \"2000-01-01T00:00:00Z\"\n",
        quoted(name)
    )
}
