//! Windows: how much may be sent before the receiver has taken what came (RFC 9113 section 5.2).

use super::reason::Reason;

/// The largest window.
pub const MOST_WINDOW: u32 = u32::MAX >> 1;
/// The window before anybody said something else.
const FIRST_WINDOW: i64 = 65_535;

/// What may be sent. A change of the settings can make it negative.
#[derive(Debug)]
pub struct SendWindow(i64);

/// What may come, and what of it is owed back to the sender.
#[derive(Debug)]
pub struct ReceiveWindow {
    size: u32,
    left: u32,
    owed: u32,
}

impl Default for SendWindow {
    fn default() -> Self {
        Self(FIRST_WINDOW)
    }
}

impl SendWindow {
    /// A window of this size.
    pub fn new(size: u32) -> Self {
        Self(i64::from(size))
    }

    /// What may be sent now.
    pub fn room(&self) -> usize {
        usize::try_from(self.0).unwrap_or(0)
    }

    /// So much was sent; no more than there was room for.
    pub fn take(&mut self, bytes: usize) {
        self.0 -= i64::try_from(bytes).unwrap_or(i64::MAX);
    }

    /// The receiver opens it, or the settings change it.
    pub fn change(&mut self, by: i64) -> Result<(), Reason> {
        let size = self.0 + by;
        if size > i64::from(MOST_WINDOW) {
            return Err(Reason::FLOW_CONTROL_ERROR);
        }
        self.0 = size;
        Ok(())
    }
}

impl ReceiveWindow {
    /// A window of this size.
    pub fn new(size: u32) -> Self {
        Self { size, left: size, owed: 0 }
    }

    /// What came and was not taken yet.
    pub fn untaken(&self) -> u32 {
        self.size - self.left - self.owed
    }

    /// So much came.
    pub fn came(&mut self, bytes: usize) -> Result<(), Reason> {
        let left = u32::try_from(bytes).ok().and_then(|bytes| self.left.checked_sub(bytes));
        self.left = left.ok_or(Reason::FLOW_CONTROL_ERROR)?;
        Ok(())
    }

    /// So much was taken; the increment to tell the sender, once it is half of the window.
    pub fn taken(&mut self, bytes: usize) -> Option<u32> {
        self.owed += bytes as u32;
        if self.owed < self.size / 2 {
            return None;
        }
        self.left += self.owed;
        Some(std::mem::take(&mut self.owed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_send_window_may_become_negative_and_not_too_large() {
        let mut window = SendWindow::default();
        window.take(65_535);
        assert_eq!(window.change(-10), Ok(()));
        assert_eq!(window.room(), 0);
        assert_eq!(window.change(15), Ok(()));
        assert_eq!(window.room(), 5);
        assert_eq!(window.change(i64::from(MOST_WINDOW)), Err(Reason::FLOW_CONTROL_ERROR));
    }

    #[test]
    fn the_sender_hears_of_halves() {
        let mut window = ReceiveWindow::new(100);
        assert_eq!(window.came(100), Ok(()));
        assert_eq!(window.came(1), Err(Reason::FLOW_CONTROL_ERROR));
        assert_eq!(window.taken(49), None);
        assert_eq!(window.taken(1), Some(50));
        assert_eq!((window.came(50), window.came(1)), (Ok(()), Err(Reason::FLOW_CONTROL_ERROR)));
    }
}
