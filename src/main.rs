//! The `tidegate` command: parses its arguments, calls the library, returns an exit code.

use std::process::ExitCode;

use mimalloc::MiMalloc;
use rustfs_mimalloc_profiling::SamplingAllocator;

// Samples only while somebody asked for a profile of memory.
#[global_allocator]
static ALLOCATOR: SamplingAllocator<MiMalloc> = SamplingAllocator::with_allocator(MiMalloc);

fn main() -> ExitCode {
    tidegate::cli::run()
}
