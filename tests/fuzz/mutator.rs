//! Makes new inputs out of good ones: bytes, numbers and lines are changed, words are put in, two inputs become one.
//!
//! Invariant: the same seed and the same pool give the same inputs, on every machine.

/// No input is longer.
pub const BYTES_MAX: usize = 64 << 10;

/// Bytes at which readers take another way.
const EDGES: &[u8] = b"\0\x01\t\n\r\x1b \"'#$%&*+,-./09:;<=>?@AZ[\\]^_`az{|}~\x7f\x80\xc2\xe2\xff";

/// Numbers at which readers take another way.
const NUMBERS: &[&str] = &[
    "0",
    "1",
    "-1",
    "00",
    "127",
    "255",
    "256",
    "65535",
    "65536",
    "2147483647",
    "4294967296",
    "9007199254740993",
    "9223372036854775807",
    "18446744073709551616",
    "1e9",
    "0.5",
];

/// A stream of numbers (SplitMix64, <https://prng.di.unimi.it/splitmix64.c>).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    pub fn of(seed: u64) -> Self {
        Self(seed)
    }

    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`; zero where that is zero.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.draw() % (end.max(1) as u64)).expect("below a usize")
    }

    fn one_of<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }

    /// A range within so many bytes, mostly a short one.
    fn range(&mut self, length: usize) -> std::ops::Range<usize> {
        let from = self.below(length + 1);
        let longest = match self.below(4) {
            0 => length,
            1 => 64,
            _ => 8,
        };
        from..(from + self.below(longest + 1)).min(length)
    }
}

/// One of the pool, changed in one to eight ways.
pub fn mutate(dice: &mut Dice, pool: &[Vec<u8>], words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = dice.one_of(pool).clone();
    for _ in 0..1 + dice.below(4) * dice.below(3) {
        change(dice, &mut bytes, pool, words);
        bytes.truncate(BYTES_MAX);
    }
    bytes
}

fn change(dice: &mut Dice, bytes: &mut Vec<u8>, pool: &[Vec<u8>], words: &[&[u8]]) {
    let length = bytes.len();
    let range = dice.range(length);
    let put = match dice.below(12) {
        0 if length > 0 => {
            bytes[range.start.min(length - 1)] ^= 1 << dice.below(8);
            return;
        }
        1 if length > 0 => {
            bytes[range.start.min(length - 1)] = *dice.one_of(EDGES);
            return;
        }
        2 => vec![*dice.one_of(EDGES); 1 + dice.below(3)],
        3 => return drop(bytes.drain(range)),
        // Twice, or very often.
        4 => bytes[range.clone()].repeat(if dice.below(8) == 0 { 2 + dice.below(200) } else { 2 }),
        5 => bytes[dice.range(length)].to_vec(),
        6 | 7 if !words.is_empty() => {
            let word = dice.one_of(words).to_vec();
            let at = if dice.below(2) == 0 { range.start..range.start } else { range };
            return drop(bytes.splice(at, word));
        }
        8 => {
            let other = dice.one_of(pool);
            other[dice.range(other.len())].to_vec()
        }
        9 => return change_number(dice, bytes),
        10 => return change_line(dice, bytes),
        11 => return bytes.truncate(range.start),
        _ => vec![u8::try_from(dice.below(256)).expect("a byte")],
    };
    bytes.splice(range, put);
}

/// Another number in the place of one that is written in digits.
fn change_number(dice: &mut Dice, bytes: &mut Vec<u8>) {
    let starts: Vec<usize> = (0..bytes.len())
        .filter(|at| bytes[*at].is_ascii_digit() && (*at == 0 || !bytes[at - 1].is_ascii_digit()))
        .collect();
    if let Some(start) = starts.get(dice.below(starts.len())) {
        let digits = bytes[*start..].iter().take_while(|it| it.is_ascii_digit()).count();
        bytes.splice(*start..start + digits, dice.one_of(NUMBERS).bytes());
    }
}

/// A line is left out, said twice, or moved.
fn change_line(dice: &mut Dice, bytes: &mut Vec<u8>) {
    let mut lines: Vec<Vec<u8>> = bytes.split_inclusive(|it| *it == b'\n').map(<[u8]>::to_vec).collect();
    if lines.is_empty() {
        return;
    }
    let (one, other) = (dice.below(lines.len()), dice.below(lines.len()));
    match dice.below(3) {
        0 => drop(lines.remove(one)),
        1 => lines.insert(other, lines[one].clone()),
        _ => lines.swap(one, other),
    }
    *bytes = lines.concat();
}
