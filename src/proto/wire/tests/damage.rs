//! Damage to encoded records: edits of the bytes of one message at any depth. The lengths around
//! it are put right again, so that the damage is not found before it is reached.

use proptest::{collection::vec, prelude::*, sample::Index};

use super::reference::{Field, Fields};

#[derive(Clone, Debug)]
enum Edit {
    Flip(Index, u8),
    Truncate(Index),
    Append(Vec<u8>),
    /// A field of this message once more, elsewhere.
    Repeat(Index, Index),
    Swap(Index, Index),
    Drop(Index),
    Insert(Index, Vec<u8>),
    Alter(Index, Alteration),
}

#[derive(Clone, Debug)]
enum Alteration {
    /// The value stays, under another number or wire type.
    Retag(u32, u8),
    /// The tag in more bytes than it takes.
    LongTag(usize),
    /// The length of the value in more bytes than it takes.
    LongLength(usize),
    /// A length that is not the value's.
    Length(u64),
    /// Another value of the same number and wire type.
    Value(Vec<u8>),
}

/// Edits of a message: which fields to go into, and what to do there.
#[derive(Clone, Debug)]
pub(super) struct Damage(Vec<(Vec<Index>, Edit)>);

/// One to three edits; `donor` is a message to take fields from.
pub(super) fn damage(
    donor: impl Strategy<Value = Vec<u8>> + 'static,
) -> impl Strategy<Value = Damage> {
    let place = vec(any::<Index>(), 0..4);
    vec((place, edit(donor.boxed())), 1..=3).prop_map(Damage)
}

fn edit(donor: BoxedStrategy<Vec<u8>>) -> impl Strategy<Value = Edit> {
    let at = any::<Index>;
    let donated = (donor, at()).prop_map(|(message, at)| {
        let fields = Fields::of(&message).fields;
        at.get(&fields).whole.clone()
    });
    prop_oneof![
        1 => (at(), 0..8_u8).prop_map(|(at, bit)| Edit::Flip(at, bit)),
        1 => at().prop_map(Edit::Truncate),
        1 => vec(any::<u8>(), 1..4).prop_map(Edit::Append),
        1 => (at(), at()).prop_map(|(from, to)| Edit::Repeat(from, to)),
        1 => (at(), at()).prop_map(|(a, b)| Edit::Swap(a, b)),
        1 => at().prop_map(Edit::Drop),
        1 => (at(), donated).prop_map(|(at, field)| Edit::Insert(at, field)),
        1 => (at(), foreign()).prop_map(|(at, field)| Edit::Insert(at, field)),
        6 => (at(), alteration()).prop_map(|(at, alteration)| Edit::Alter(at, alteration)),
    ]
}

fn alteration() -> impl Strategy<Value = Alteration> {
    prop_oneof![
        (0..16_u32, 0..8_u8).prop_map(|(number, wire)| Alteration::Retag(number, wire)),
        (1..11_usize).prop_map(Alteration::LongTag),
        (1..11_usize).prop_map(Alteration::LongLength),
        integer().prop_map(Alteration::Length),
        vec(any::<u8>(), 0..12).prop_map(Alteration::Value),
        (integer(), 0..3_usize).prop_map(|(value, by)| Alteration::Value(varint(value, by))),
        (0..4_u8).prop_map(|last| Alteration::Value([vec![0xff; 9], vec![last]].concat())),
        Just(Alteration::Value(f64::NAN.to_le_bytes().into())),
    ]
}

/// Around the limits of the rules and of the types.
fn integer() -> impl Strategy<Value = u64> {
    let edges = [
        0,
        1,
        2,
        3,
        4,
        28,
        29,
        64,
        65,
        1_000_000,
        u32::MAX as u64,
        (1 << 32) + 2,
        1 << 33,
        1 << 63,
        u64::MAX,
    ];
    prop_oneof![
        prop::sample::select(edges.to_vec()),
        any::<u64>(),
        0..300_u64
    ]
}

/// Any field, and what is none.
fn foreign() -> impl Strategy<Value = Vec<u8>> {
    let number = prop_oneof![8 => 0..17_u32, 1 => any::<u32>()];
    (number, 0..8_u8, integer(), vec(any::<u8>(), 8)).prop_map(|(number, wire, value, body)| {
        let value = match wire {
            0 => varint(value, 0),
            1 => body,
            2 => [varint(8, 0), body].concat(),
            5 => body[..4].to_vec(),
            _ => vec![],
        };
        [tag(number, wire, 0), value].concat()
    })
}

impl Damage {
    pub(super) fn done_to(&self, message: &[u8]) -> Vec<u8> {
        self.0
            .iter()
            .fold(message.to_vec(), |bytes, (place, edit)| {
                done_at(&bytes, place, edit)
            })
    }
}

fn done_at(message: &[u8], place: &[Index], edit: &Edit) -> Vec<u8> {
    let Fields { fields, garbage } = Fields::of(message);
    let mut parts: Vec<Vec<u8>> = fields.iter().map(|field| field.whole.clone()).collect();
    if let Some((into, deeper)) = place.split_first()
        && !fields.is_empty()
    {
        let at = into.index(fields.len());
        let field = &fields[at];
        if field.wire == 2 {
            parts[at] = with_body(field, &done_at(&field.body, deeper, edit));
            return [parts.concat(), garbage].concat();
        }
    }
    match edit {
        Edit::Flip(at, bit) => return flipped(message, *at, *bit),
        Edit::Truncate(at) => return message[..at.index(message.len() + 1)].to_vec(),
        Edit::Append(bytes) => return [message, bytes].concat(),
        Edit::Insert(at, field) => parts.insert(at.index(parts.len() + 1), field.clone()),
        _ if fields.is_empty() => {}
        Edit::Repeat(from, to) => parts.insert(to.index(parts.len() + 1), from.get(&parts).clone()),
        Edit::Swap(a, b) => {
            let len = parts.len();
            parts.swap(a.index(len), b.index(len));
        }
        Edit::Drop(at) => drop(parts.remove(at.index(fields.len()))),
        Edit::Alter(at, alteration) => {
            let at = at.index(fields.len());
            parts[at] = altered(&fields[at], alteration);
        }
    }
    [parts.concat(), garbage].concat()
}

fn flipped(message: &[u8], at: Index, bit: u8) -> Vec<u8> {
    let mut bytes = message.to_vec();
    if !bytes.is_empty() {
        bytes[at.index(message.len())] ^= 1 << bit;
    }
    bytes
}

fn altered(field: &Field, alteration: &Alteration) -> Vec<u8> {
    let number = u32::try_from(field.number).unwrap();
    let (tag_bytes, value) = field.whole.split_at(field.tag_len);
    let with_length = |len: Vec<u8>| match field.wire {
        2 => [tag_bytes, &len, &field.body].concat(),
        _ => field.whole.clone(),
    };
    match alteration {
        Alteration::Retag(number, wire) => [tag(*number, *wire, 0), value.to_vec()].concat(),
        Alteration::LongTag(by) => [tag(number, field.wire, *by), value.to_vec()].concat(),
        Alteration::LongLength(by) => with_length(varint(field.body.len() as u64, *by)),
        Alteration::Length(len) => with_length(varint(*len, 0)),
        Alteration::Value(body) if field.wire == 2 => with_body(field, body),
        Alteration::Value(value) => [tag_bytes, value].concat(),
    }
}

fn with_body(field: &Field, body: &[u8]) -> Vec<u8> {
    let number = u32::try_from(field.number).unwrap();
    let len = varint(body.len() as u64, 0);
    [tag(number, 2, 0), len, body.to_vec()].concat()
}

fn tag(number: u32, wire: u8, padding: usize) -> Vec<u8> {
    varint(u64::from(number) << 3 | u64::from(wire), padding)
}

/// With `padding` bytes more than it takes.
fn varint(value: u64, padding: usize) -> Vec<u8> {
    let mut bytes = vec![];
    prost::encoding::encode_varint(value, &mut bytes);
    for _ in 0..padding {
        *bytes.last_mut().unwrap() |= 0x80;
        bytes.push(0);
    }
    bytes
}
