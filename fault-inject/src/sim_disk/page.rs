//! One page of a file as one layer holds it, with what it should be beside it. Cheap to share between layers.
//! Knows nothing of files, offsets or chance.

use std::sync::{Arc, LazyLock};

use crate::damage::{PAGE_BYTES, SECTOR_BYTES};

/// Bytes of one page.
pub(super) type Block = [u8; PAGE_BYTES];

/// Sectors of one page.
const SECTORS: usize = PAGE_BYTES / SECTOR_BYTES;

static ZEROS: LazyLock<Arc<Block>> = LazyLock::new(|| Arc::new([0; PAGE_BYTES]));

/// A page: its bytes, and the truth where a fault made them differ.
#[derive(Clone, Debug)]
pub(super) struct Page {
    bytes: Arc<Block>,
    /// What would stand here without faults; `None` while that is `bytes` itself.
    truth: Option<Arc<Block>>,
}

impl Page {
    pub(super) fn zero() -> Page {
        Page { bytes: ZEROS.clone(), truth: None }
    }

    pub(super) fn bytes(&self) -> &Block {
        &self.bytes
    }

    pub(super) fn truth(&self) -> &Block {
        self.truth.as_ref().unwrap_or(&self.bytes)
    }

    pub(super) fn is_damaged(&self) -> bool {
        self.truth.as_ref().is_some_and(|truth| **truth != *self.bytes)
    }

    pub(super) fn is_zero(&self) -> bool {
        *self.bytes == **ZEROS
    }

    /// An honest write: bytes and truth both take it.
    pub(super) fn write(&mut self, at: usize, bytes: &[u8]) {
        let end = at + bytes.len();
        Arc::make_mut(&mut self.bytes)[at..end].copy_from_slice(bytes);
        if let Some(truth) = &mut self.truth {
            Arc::make_mut(truth)[at..end].copy_from_slice(bytes);
        }
    }

    /// Zeros from an offset on, as the part of the last page beyond the end of a file must be.
    pub(super) fn zero_from(&mut self, at: usize) {
        if self.bytes[at..].iter().any(|&byte| byte != 0) {
            Arc::make_mut(&mut self.bytes)[at..].fill(0);
        }
        if let Some(truth) = &mut self.truth {
            Arc::make_mut(truth)[at..].fill(0);
        }
    }

    /// A fault: the bytes change, the truth does not.
    pub(super) fn damage(&mut self, change: impl FnOnce(&mut Block)) {
        if self.truth.is_none() {
            self.truth = Some(self.bytes.clone());
        }
        change(Arc::make_mut(&mut self.bytes));
    }

    /// A write that should have made this page into `intended` and did not.
    pub(super) fn left_behind_by(&self, intended: &Page) -> Page {
        let truth = intended.truth.as_ref().unwrap_or(&intended.bytes);
        Page { bytes: self.bytes.clone(), truth: Some(truth.clone()) }
    }

    /// A write that was meant for elsewhere and hit this page.
    pub(super) fn hit_by(&self, stray: &Page) -> Page {
        let truth = self.truth.as_ref().unwrap_or(&self.bytes);
        Page { bytes: stray.bytes.clone(), truth: Some(truth.clone()) }
    }

    /// Whether both hold the same bytes.
    pub(super) fn equals(&self, other: &Page) -> bool {
        Arc::ptr_eq(&self.bytes, &other.bytes) || self.bytes == other.bytes
    }

    /// A page of which each sector is from `self` or, where `takes_new` says so, from `new`. What a power cut tears
    /// is no damage: it is what the file system owes nobody, so the truth is torn as well.
    pub(super) fn torn_with(&self, new: &Page, mut takes_new: impl FnMut() -> bool) -> Page {
        let mut bytes = *self.bytes;
        let mut truth = *self.truth();
        for sector in 0..SECTORS {
            if takes_new() {
                let range = sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES;
                bytes[range.clone()].copy_from_slice(&new.bytes[range.clone()]);
                truth[range.clone()].copy_from_slice(&new.truth()[range]);
            }
        }
        let truth = (truth != bytes).then(|| Arc::new(truth));
        Page { bytes: Arc::new(bytes), truth }
    }
}
