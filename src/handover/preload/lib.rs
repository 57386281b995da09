//! The library that goes into the job. It stands before the functions of the driver that take and give back memory and
//! keeps the holder informed, so that the balloon gives way as the job grows.
//!
//! It is loaded into every program that the job starts, so it does nothing until one of those functions is called: no
//! constructor, no thread, no descriptor left open, no variable, no symbol of a certain C library. It never prints, never
//! fails a call that succeeds, and without a holder the job goes on as if it were not there.
#![no_std]
#![deny(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]
#![allow(non_snake_case, reason = "the driver's names")]

mod current;
mod driver;
mod heap;
mod holder;
mod hook;
mod hooks;
mod lending;
mod list;
mod lock;
mod objects;
mod pools;
#[allow(dead_code, reason = "the holder uses the rest")]
mod protocol;
mod resolve;
mod state;
mod system;
mod table;

/// Nothing here panics on purpose. Were there a way after all, the thread would stop here rather than take the job down
/// with a message.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {
        system::futex_wait(&core::sync::atomic::AtomicU32::new(0), 0, system::Futex::OfProcess);
    }
}
