//! Memory that threads have freed is given back. The test is alone in its file: it looks at the
//! whole process.

use std::sync::Barrier;
use std::thread;

use sigmax_core::server::trim;

const MEBIBYTE: usize = 1 << 20;

#[test]
fn memory_that_is_free_at_the_end_of_a_threads_own_is_given_back() {
    trim::bound();
    let before = trim::resident();
    let freed = Barrier::new(2);
    thread::scope(|scope| {
        scope.spawn(|| {
            // glibc would keep more from now on.
            drop(vec![1u8; 30 * MEBIBYTE]);
            let blocks: Vec<_> = (0..500).map(|_| vec![1u8; 100_000]).collect();
            assert!(trim::resident() > before + 40 * MEBIBYTE);
            drop(blocks);
            freed.wait();
            freed.wait();
        });
        freed.wait();
        trim::trim();
        let after = trim::resident();
        assert!(after < before + 12 * MEBIBYTE, "{before} bytes before, {after} after");
        freed.wait();
    });
}
