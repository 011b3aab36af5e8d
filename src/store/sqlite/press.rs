//! Compresses the bodies of deliveries.
//!
//! Invariant: no more than a few contexts are kept, and none that has grown on a large body.

use std::sync::{Mutex, PoisonError};

use zstd::bulk::Compressor;

use crate::store::StoreError;

/// A payload is text that says everything twice, and a push is waiting: the fastest level halves it at the least.
const LEVEL: i32 = 1;

/// Contexts that are kept; more than this many bodies are rarely compressed at the same moment.
const KEPT: usize = 4;

/// A context that has seen a body beyond this has grown, and is not kept.
const ORDINARY_BODY_BYTES: usize = 64 * 1024;

/// Compresses, and keeps its contexts: to make one costs as much as to compress an ordinary push.
#[derive(Default)]
pub(in crate::store) struct Press {
    /// Held for a push or a pop. A channel would need somebody at its other end.
    idle: Mutex<Vec<Compressor<'static>>>,
}

impl Press {
    /// The compressed bytes.
    pub(in crate::store) fn compress(&self, bytes: &[u8]) -> Result<Vec<u8>, StoreError> {
        let failed = |err| StoreError::Unavailable(format!("cannot compress a body: {err}"));
        let kept = self.idle().pop();
        let mut context = kept.map_or_else(|| Compressor::new(LEVEL), Ok).map_err(failed)?;
        let compressed = context.compress(bytes).map_err(failed)?;
        let mut idle = self.idle();
        if bytes.len() <= ORDINARY_BODY_BYTES && idle.len() < KEPT {
            idle.push(context);
        }
        Ok(compressed)
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Compressor<'static>>> {
        // A list that somebody panicked over is still a list of contexts.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::{KEPT, ORDINARY_BODY_BYTES, Press};

    #[test]
    fn bodies_come_back_whole_and_large_ones_leave_nothing_behind() {
        let press = Press::default();
        for body in [b"".to_vec(), b"one".to_vec(), vec![b'x'; 3 * ORDINARY_BODY_BYTES]] {
            let compressed = press.compress(&body).unwrap();
            assert_eq!(zstd::bulk::decompress(&compressed, body.len()).unwrap(), body);
        }
        assert!(press.idle().is_empty(), "the last one was large");
        for _ in 0..3 * KEPT {
            press.compress(b"one").unwrap();
        }
        assert_eq!(press.idle().len(), 1);
    }
}
