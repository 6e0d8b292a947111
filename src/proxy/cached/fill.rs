//! Takes a response's body in, at the origin's pace, for everybody who reads it.

use std::future::poll_fn;

use http_body_util::BodyExt;

use super::super::body::ResponseBody;
use crate::cache::fill::Fill;

/// Reads `body` to its end into `fill`.
pub(super) async fn fill(mut body: ResponseBody, mut fill: Fill) {
    let mut trailers = None;
    while poll_fn(|cx| fill.poll_room(cx)).await {
        match body.frame().await {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => fill.push(data),
                Err(frame) => trailers = frame.into_trailers().ok(),
            },
            // Dropped, it tells its readers.
            Some(Err(_broken)) => return,
            None => {
                fill.finish(trailers);
                return;
            }
        }
    }
}

/// Reads `body` to its end for nobody, so that its connection can be used again.
pub(super) async fn discard(mut body: ResponseBody) {
    while let Some(Ok(_frame)) = body.frame().await {}
}
