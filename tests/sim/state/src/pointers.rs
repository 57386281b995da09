//! The pointers that C callers pass: they refuse null, and copy instead of lending.

use std::ffi::{CStr, c_char, c_int};
use std::marker::PhantomData;

/// A library's way to refuse an argument.
pub trait Refusal {
    const NULL_POINTER: Self;
}

/// Where a caller wants a value put.
#[repr(transparent)]
pub struct Out<T, E>(*mut T, PhantomData<E>);

/// Where a caller keeps a value, or the first of several.
#[repr(transparent)]
pub struct In<T, E>(*const T, PhantomData<E>);

/// A caller's text.
#[repr(transparent)]
pub struct Text<E>(*const c_char, PhantomData<E>);

impl<T, E: Refusal> Out<T, E> {
    pub fn is_null(self) -> bool {
        self.0.is_null()
    }

    /// Refuses null.
    pub fn put(self, value: T) -> Result<(), E> {
        if self.0.is_null() {
            return Err(E::NULL_POINTER);
        }
        // SAFETY: not null, so by the library's interface the caller's room for a `T`.
        unsafe { self.0.write_unaligned(value) };
        Ok(())
    }

    /// Null means that the caller does not want it.
    pub fn put_if_wanted(self, value: T) {
        if !self.0.is_null() {
            let _ = self.put(value);
        }
    }

    /// Refuses null before anything has happened.
    pub fn wanted(self) -> Result<Self, E> {
        if self.0.is_null() { Err(E::NULL_POINTER) } else { Ok(self) }
    }

    /// What the caller has put there.
    pub fn get(self) -> Result<T, E>
    where
        T: Copy,
    {
        In(self.0.cast_const(), PhantomData).get()
    }

    /// The place of the element `index`.
    pub fn at(self, index: usize) -> Self {
        Self(self.0.wrapping_add(index), PhantomData)
    }

    pub fn cast<U>(self) -> Out<U, E> {
        Out(self.0.cast(), PhantomData)
    }

    pub fn address(self) -> usize {
        self.0.addr()
    }
}

impl<E: Refusal> Out<c_char, E> {
    /// Writes `text` into room for `length` characters, cut to fit, with a NUL behind it.
    pub fn put_text(self, text: &str, length: c_int) -> Result<(), E> {
        let room = usize::try_from(length).ok().filter(|room| *room > 0).ok_or(E::NULL_POINTER)?;
        let kept = text.bytes().take(room - 1).chain([0]);
        kept.enumerate().try_for_each(|(index, byte)| self.at(index).put(byte as c_char))
    }
}

impl<T: Copy, E: Refusal> In<T, E> {
    pub fn get(self) -> Result<T, E> {
        if self.0.is_null() {
            return Err(E::NULL_POINTER);
        }
        // SAFETY: not null, so by the library's interface the caller's `T`.
        Ok(unsafe { self.0.read_unaligned() })
    }

    pub fn is_null(self) -> bool {
        self.0.is_null()
    }

    pub fn at(self, index: usize) -> Self {
        Self(self.0.wrapping_add(index), PhantomData)
    }

    pub fn cast<U>(self) -> In<U, E> {
        In(self.0.cast(), PhantomData)
    }
}

impl<E> In<u8, E> {
    /// The same place, where a text is known to begin.
    pub fn text(self) -> Text<E> {
        Text(self.0.cast(), PhantomData)
    }
}

impl<E: Refusal> Text<E> {
    pub fn get<'a>(self) -> Result<&'a CStr, E> {
        if self.0.is_null() {
            return Err(E::NULL_POINTER);
        }
        // SAFETY: not null, so by the library's interface a NUL-terminated text that lives during the call.
        Ok(unsafe { CStr::from_ptr(self.0) })
    }
}

impl<T, E> Clone for Out<T, E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T, E> Copy for Out<T, E> {}

impl<T, E> Clone for In<T, E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T, E> Copy for In<T, E> {}
