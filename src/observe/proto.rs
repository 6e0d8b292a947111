//! A writer of protocol buffers, as far as exports and profiles need one.
//!
//! A few lines in the place of generated code for some hundred messages. Tests decode what it writes with the
//! official definitions. Depends on nothing.

/// A message under way.
#[derive(Clone, Debug, Default)]
pub(super) struct Message(Vec<u8>);

impl Message {
    /// What was written.
    #[must_use]
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// An integer field, left out when it is 0.
    pub(super) fn integer(&mut self, field: u32, value: u64) {
        if value != 0 {
            self.choice(field, value);
        }
    }

    /// An integer field, written whatever it is: it stands for a choice among fields.
    pub(super) fn choice(&mut self, field: u32, value: u64) {
        self.key(field, 0);
        self.varint(value);
    }

    /// A 64-bit field, left out when it is 0.
    pub(super) fn fixed(&mut self, field: u32, value: u64) {
        if value != 0 {
            self.key(field, 1);
            self.0.extend_from_slice(&value.to_le_bytes());
        }
    }

    /// A floating point field, written whatever it is: it stands for a choice among fields.
    pub(super) fn double(&mut self, field: u32, value: f64) {
        self.key(field, 1);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// A text or bytes, written even when empty.
    pub(super) fn bytes(&mut self, field: u32, value: &[u8]) {
        self.key(field, 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
    }

    /// A message within; `write` only adds to it.
    pub(super) fn message(&mut self, field: u32, write: impl FnOnce(&mut Self)) {
        self.key(field, 2);
        let start = self.0.len();
        write(self);
        let end = self.0.len();
        self.varint((end - start) as u64);
        // The length goes before what it is of, which was written in its place so as to be copied once.
        let width = self.0.len() - end;
        if let Some(inner) = self.0.get_mut(start..) {
            inner.rotate_right(width);
        }
    }

    fn key(&mut self, field: u32, kind: u32) {
        self.varint(u64::from(field << 3 | kind));
    }

    fn varint(&mut self, mut value: u64) {
        loop {
            let [low, ..] = value.to_le_bytes();
            value >>= 7;
            if value == 0 {
                return self.0.push(low & 0x7F);
            }
            self.0.push(low | 0x80);
        }
    }
}
