//! What a value is made of: words of the vendor, and fields of the common model between them.

/// What a field belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Place {
    Phone,
    Line(u16),
    Key(u16),
    /// A key of an expansion module.
    Module(u16, u16),
}

impl Place {
    pub(super) fn is_key(self) -> bool {
        matches!(self, Place::Key(_) | Place::Module(..))
    }
}

/// One field of one line, key, or of the phone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Slot {
    pub(super) place: Place,
    /// As a dotted path below its place.
    pub(super) field: &'static str,
    /// Digits and nothing else.
    pub(super) number: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Words(String),
    Slot(Slot),
    /// The number of a key's line, and what is added to it.
    Line(i64),
    /// Something of a line, whichever it is.
    Any,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern(pub(super) Vec<Piece>);

/// What a value says by a pattern.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) slots: Vec<(Slot, String)>,
    pub(super) line: Option<u16>,
}

impl Pattern {
    pub(super) fn slots(&self) -> impl Iterator<Item = Slot> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Slot(slot) => Some(*slot),
            _ => None,
        })
    }

    /// The letters that must be there: how narrow it is.
    pub(super) fn words(&self) -> usize {
        self.0.iter().map(|piece| if let Piece::Words(words) = piece { words.len() } else { 0 }).sum()
    }

    pub(super) fn read(&self, value: &str) -> Option<Said> {
        let mut said = Said::default();
        read(&self.0, value, &mut said).then_some(said)
    }

    /// The pattern of a value that was written for a key on line 1 and again on line 2.
    pub(super) fn of_both(one: &Pattern, other: &Pattern) -> Option<Pattern> {
        if one.0.len() != other.0.len() {
            return None;
        }
        let mut pieces = Vec::new();
        for pair in one.0.iter().zip(&other.0) {
            match pair {
                (Piece::Words(one), Piece::Words(other)) if one != other => pieces.extend(counted(one, other)?),
                (Piece::Slot(one), Piece::Slot(other)) if one != other => {
                    let of_lines = (one.place, other.place) == (Place::Line(1), Place::Line(2));
                    (of_lines && one.field == other.field).then(|| pieces.push(Piece::Any))?;
                }
                (one, other) => (one == other).then(|| pieces.push(one.clone()))?,
            }
        }
        Some(Pattern(pieces))
    }

    /// The same for a phone of one line: what is of the line may be anything.
    pub(super) fn of_any_line(self) -> Pattern {
        let any = |piece| match piece {
            Piece::Slot(Slot { place: Place::Line(_), .. }) => Piece::Any,
            other => other,
        };
        Pattern(self.0.into_iter().map(any).collect())
    }
}

/// Words that differ in one number, which counts the lines.
fn counted(one: &str, other: &str) -> Option<Vec<Piece>> {
    let same = one.chars().zip(other.chars()).take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum::<usize>();
    let start = one[..same].trim_end_matches(|letter: char| letter.is_ascii_digit()).len();
    let end =
        |text: &str| text[start..].find(|letter: char| !letter.is_ascii_digit()).map_or(text.len(), |at| start + at);
    let (first, second) = (end(one), end(other));
    if one[first..] != other[second..] {
        return None;
    }
    let (a, b) = (one[start..first].parse::<i64>().ok()?, other[start..second].parse::<i64>().ok()?);
    (b == a + 1).then(|| {
        let words = |text: &str| (!text.is_empty()).then(|| Piece::Words(text.to_owned()));
        [words(&one[..start]), Some(Piece::Line(a - 1)), words(&one[first..])].into_iter().flatten().collect()
    })
}

fn read(pieces: &[Piece], value: &str, said: &mut Said) -> bool {
    let Some((piece, rest)) = pieces.split_first() else { return value.is_empty() };
    if let Piece::Words(words) = piece {
        return value.strip_prefix(words.as_str()).is_some_and(|value| read(rest, value, said));
    }
    // A value ends where the next words begin; of two values side by side nobody can tell which is whose.
    let ends: Vec<usize> = match rest.first() {
        None => vec![value.len()],
        Some(Piece::Words(words)) => value.match_indices(words.as_str()).map(|(at, _)| at).take(64).collect(),
        Some(_) => return false,
    };
    for end in ends {
        let own = &value[..end];
        let digits = || !own.is_empty() && own.len() < 10 && own.bytes().all(|letter| letter.is_ascii_digit());
        let before = said.clone();
        let fits = match piece {
            Piece::Slot(slot) if !slot.number || own.is_empty() || digits() => {
                said.slots.push((*slot, own.to_owned()));
                true
            }
            Piece::Line(more) if digits() => {
                let line = own.parse::<i64>().ok().map(|number| number - more).filter(|line| (1..=999).contains(line));
                said.line = line.map(|line| line as u16);
                line.is_some()
            }
            Piece::Any => true,
            _ => false,
        };
        if fits && read(rest, &value[end..], said) {
            return true;
        }
        *said = before;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALUE: Slot = Slot { place: Place::Key(3), field: "value", number: false };
    const PORT: Slot = Slot { place: Place::Line(1), field: "port", number: true };

    fn words(text: &str) -> Piece {
        Piece::Words(text.into())
    }

    #[test]
    fn values_are_found_between_words() {
        let pattern =
            Pattern(vec![words("sub="), Piece::Slot(VALUE), words("@"), Piece::Any, words(";vid="), Piece::Line(0)]);
        let said = pattern.read("sub=a@b@pbx;vid=12").unwrap();
        assert_eq!((said.slots, said.line), (vec![(VALUE, "a".to_owned())], Some(12)));
        assert!(pattern.read("sub=a@pbx;vid=x").is_none() && pattern.read("sup=a@pbx;vid=1").is_none());
        let port = Pattern(vec![Piece::Any, words(":"), Piece::Slot(PORT)]);
        assert_eq!(port.read("fe80::1:5060").unwrap().slots, [(PORT, "5060".to_owned())]);
        assert!(port.read("host:none").is_none());
    }

    #[test]
    fn a_number_that_grows_with_the_line_is_the_line() {
        let one = Pattern(vec![Piece::Slot(VALUE), words("@SIP0/b")]);
        let two = Pattern(vec![Piece::Slot(VALUE), words("@SIP1/b")]);
        let both = Pattern::of_both(&one, &two).unwrap();
        assert_eq!(both.read("200@SIP4/b").unwrap().line, Some(5));
        assert_eq!(Pattern::of_both(&one, &Pattern(vec![Piece::Slot(VALUE), words("@x/b")])), None);
    }
}
