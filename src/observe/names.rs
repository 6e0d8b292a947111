//! The clients' names of one batch, in the order of its exchanges.
//!
//! An exchange is fixed in size and carries its client as a number; whoever meets that number for the first
//! time finds the name here. Copying a few bytes for every exchange costs less than remembering, in every
//! worker, which names have been told already, and none is ever missing. Depends on nothing.

/// The longest name kept, in bytes. What is longer is cut.
const LONGEST: usize = 128;

/// Names back to back in one buffer.
#[derive(Debug, Default)]
pub(super) struct Names {
    text: String,
    lengths: Vec<u8>,
}

impl Names {
    pub(super) fn push(&mut self, name: &str) {
        let name = name
            .get(..name.floor_char_boundary(LONGEST))
            .unwrap_or_default();
        self.text.push_str(name);
        self.lengths.push(u8::try_from(name.len()).unwrap_or(0));
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        let mut rest = self.text.as_str();
        self.lengths.iter().map(move |length| {
            let (name, after) = rest
                .split_at_checked(usize::from(*length))
                .unwrap_or_default();
            rest = after;
            name
        })
    }

    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.lengths.clear();
    }

    /// How many it has room for.
    pub(super) fn capacity(&self) -> usize {
        self.lengths.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_in_order_and_none_is_longer_than_the_bound() {
        let mut names = Names::default();
        let long = "é".repeat(LONGEST);
        for name in ["reports", "", &long, "10.0.0.1"] {
            names.push(name);
        }
        let cut = "é".repeat(LONGEST / 2);
        let kept: Vec<&str> = names.iter().collect();
        assert_eq!(kept, ["reports", "", cut.as_str(), "10.0.0.1"]);
        names.clear();
        assert_eq!(names.iter().count(), 0);
    }
}
