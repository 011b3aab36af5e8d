//! Compresses the bodies of deliveries, and makes them whole again.
//!
//! Invariant: no more than a few contexts are kept, and none that has grown on a large body. Where there is no memory the
//! answer says so, and the process lives on.

use std::{
    collections::TryReserveError,
    sync::{Mutex, PoisonError},
};

use zstd::zstd_safe::{CCtx, CParameter, DCtx, compress_bound, get_error_name};

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
    idle: Mutex<Vec<CCtx<'static>>>,
}

impl Press {
    /// The compressed bytes.
    pub(in crate::store) fn compress(&self, bytes: &[u8]) -> Result<Vec<u8>, StoreError> {
        let kept = self.idle().pop();
        let mut context = kept.map_or_else(new_context, Ok)?;
        let mut compressed = room(compress_bound(bytes.len())).map_err(cannot_compress)?;
        context.compress2(&mut compressed, bytes).map_err(|code| cannot_compress(get_error_name(code)))?;
        let mut idle = self.idle();
        if bytes.len() <= ORDINARY_BODY_BYTES && idle.len() < KEPT {
            idle.push(context);
        }
        Ok(compressed)
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<CCtx<'static>>> {
        // A list that somebody panicked over is still a list of contexts.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn new_context() -> Result<CCtx<'static>, StoreError> {
    let mut context = CCtx::try_create().ok_or_else(|| cannot_compress("there is no memory for it"))?;
    let set = context.set_parameter(CParameter::CompressionLevel(LEVEL));
    set.map_err(|code| cannot_compress(get_error_name(code)))?;
    Ok(context)
}

fn cannot_compress(why: impl std::fmt::Display) -> StoreError {
    StoreError::Unavailable(format!("cannot compress a body: {why}"))
}

/// The body that was compressed to this; `size_bytes`: its length.
pub(super) fn decompress(compressed: &[u8], size_bytes: usize) -> Result<Vec<u8>, StoreError> {
    let cannot = |why: String| StoreError::Unavailable(format!("cannot read a body: {why}"));
    let mut body = room(size_bytes).map_err(|err| cannot(err.to_string()))?;
    let mut context = DCtx::try_create().ok_or_else(|| cannot("there is no memory for it".into()))?;
    let whole = context.decompress(&mut body, compressed);
    whole.map_err(|code| StoreError::Damaged(format!("a body cannot be read: {}", get_error_name(code))))?;
    Ok(body)
}

fn room(bytes: usize) -> Result<Vec<u8>, TryReserveError> {
    let mut room = Vec::new();
    room.try_reserve_exact(bytes)?;
    Ok(room)
}

#[cfg(test)]
mod tests {
    use super::{KEPT, ORDINARY_BODY_BYTES, Press, decompress};
    use crate::store::StoreError;

    #[test]
    fn bodies_come_back_whole_and_large_ones_leave_nothing_behind() {
        let press = Press::default();
        for body in [b"".to_vec(), b"one".to_vec(), vec![b'x'; 3 * ORDINARY_BODY_BYTES]] {
            let compressed = press.compress(&body).unwrap();
            assert_eq!(decompress(&compressed, body.len()).unwrap(), body);
        }
        assert!(press.idle().is_empty(), "the last one was large");
        for _ in 0..3 * KEPT {
            press.compress(b"one").unwrap();
        }
        assert_eq!(press.idle().len(), 1);
    }

    #[test]
    fn a_body_that_is_damaged_or_says_that_it_is_larger_than_memory_is_an_error() {
        let compressed = Press::default().compress(b"one").unwrap();
        assert!(matches!(decompress(&compressed[1..], 3), Err(StoreError::Damaged(_))));
        assert!(matches!(decompress(&compressed, 2), Err(StoreError::Damaged(_))));
        assert!(matches!(decompress(&compressed, usize::MAX), Err(StoreError::Unavailable(_))));
    }
}
