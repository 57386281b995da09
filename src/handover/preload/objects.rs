//! The shared objects of this process and the symbols in them.
//!
//! Read from the objects themselves rather than through `dlsym` or `dlvsym`: this library stands before `dlsym`, whose
//! symbol version differs between systems, and which old C libraries keep in a library of its own.

use core::ffi::{CStr, c_char, c_int, c_void};
use core::slice;

#[repr(C)]
struct Info {
    base: usize,
    name: *const c_char,
    headers: *const Header,
    count: u16,
}

/// `Elf64_Phdr`.
#[repr(C)]
struct Header {
    kind: u32,
    flags: u32,
    offset: u64,
    address: usize,
    physical: u64,
    in_file: u64,
    in_memory: usize,
    alignment: u64,
}

/// `Elf64_Sym`.
#[repr(C)]
struct Symbol {
    name: u32,
    info: u8,
    other: u8,
    section: u16,
    value: usize,
    size: u64,
}

unsafe extern "C" {
    /// dl_iterate_phdr(3): in every C library for Linux, in the order in which the objects were loaded.
    fn dl_iterate_phdr(
        each: unsafe extern "C" fn(*const Info, usize, *mut c_void) -> c_int,
        data: *mut c_void,
    ) -> c_int;
}

const LOAD: u32 = 1;
const DYNAMIC: u32 = 2;

/// A loaded object, valid while it is being visited.
pub struct Object<'a> {
    base: usize,
    name: &'a [u8],
    headers: &'a [Header],
}

/// Visits the objects until `visit` returns something.
fn find<T>(mut visit: impl FnMut(&Object) -> Option<T>) -> Option<T> {
    struct Search<'a, T> {
        visit: &'a mut dyn FnMut(&Object) -> Option<T>,
        found: Option<T>,
    }
    unsafe extern "C" fn each<T>(info: *const Info, _size: usize, data: *mut c_void) -> c_int {
        // SAFETY: the loader passes what `find` gave it, which nobody else uses meanwhile.
        let search = unsafe { &mut *data.cast::<Search<T>>() };
        // SAFETY: the loader passes a description that lives for this call.
        let info = unsafe { &*info };
        if info.headers.is_null() {
            return 0;
        }
        let name = match info.name.is_null() {
            true => &[],
            // SAFETY: the loader's names are C strings.
            false => unsafe { CStr::from_ptr(info.name) }.to_bytes(),
        };
        // SAFETY: the loader says how many headers there are, and keeps them while the object is loaded.
        let headers = unsafe { slice::from_raw_parts(info.headers, info.count.into()) };
        search.found = (search.visit)(&Object { base: info.base, name, headers });
        search.found.is_some().into()
    }
    let mut search = Search { visit: &mut visit, found: None };
    // SAFETY: `each` takes the search that is passed along.
    unsafe { dl_iterate_phdr(each::<T>, (&raw mut search).cast()) };
    search.found
}

/// The first definition of `symbol` in an object that was loaded after this library.
pub fn next_definition(symbol: &CStr) -> Option<usize> {
    let own = next_definition as *const () as usize;
    let mut passed = false;
    find(|object| {
        if passed {
            return object.definition(symbol);
        }
        passed = object.contains(own);
        None
    })
}

/// The definition of `symbol` in the object that contains `address`.
pub fn definition_beside(address: usize, symbol: &CStr) -> Option<usize> {
    find(|object| object.contains(address).then(|| object.definition(symbol))).flatten()
}

/// The first definition of `symbol` in an object whose file name begins with `prefix`.
pub fn definition_in(prefix: &[u8], symbol: &CStr) -> Option<usize> {
    find(|object| {
        let file = object.name.rsplit(|byte| *byte == b'/').next()?;
        file.starts_with(prefix).then(|| object.definition(symbol)).flatten()
    })
}

/// Whether two addresses lie in the same object. An address that lies in none is nobody's.
pub fn are_neighbours(one: usize, other: usize) -> bool {
    find(|object| object.contains(one).then(|| object.contains(other))).unwrap_or(false)
}

/// Whether the address lies in this library.
pub fn is_own(address: usize) -> bool {
    are_neighbours(is_own as *const () as usize, address)
}

/// Whether the address lies in any object at all.
pub fn is_known(address: usize) -> bool {
    find(|object| object.contains(address).then_some(())).is_some()
}

/// The parts of the dynamic section that a look-up needs.
#[derive(Default)]
struct Tables {
    symbols: usize,
    strings: usize,
    gnu_hash: usize,
    hash: usize,
}

impl Object<'_> {
    fn contains(&self, address: usize) -> bool {
        let offset = address.wrapping_sub(self.base);
        let mut loaded = self.headers.iter().filter(|header| header.kind == LOAD);
        loaded.any(|header| offset.wrapping_sub(header.address) < header.in_memory)
    }

    fn definition(&self, symbol: &CStr) -> Option<usize> {
        let tables = self.tables()?;
        let index = match (tables.gnu_hash, tables.hash) {
            (0, 0) => None,
            (0, hash) => self.by_hash(&tables, hash, symbol),
            (hash, _) => self.by_gnu_hash(&tables, hash, symbol),
        }?;
        Some(self.base.wrapping_add(self.symbol(&tables, index).value))
    }

    fn tables(&self) -> Option<Tables> {
        let dynamic = self.headers.iter().find(|header| header.kind == DYNAMIC)?;
        let mut entry = self.base.wrapping_add(dynamic.address) as *const [usize; 2];
        let mut tables = Tables::default();
        loop {
            // SAFETY: the dynamic section is mapped and ends with an entry of kind 0.
            let [kind, value] = unsafe { *entry };
            // glibc has replaced addresses in the file by addresses in memory, musl leaves them as they are.
            let address = if value < self.base { self.base.wrapping_add(value) } else { value };
            match kind {
                0 => break,
                4 => tables.hash = address,
                5 => tables.strings = address,
                6 => tables.symbols = address,
                0x6fff_fef5 => tables.gnu_hash = address,
                _ => {}
            }
            // SAFETY: not the last entry, so another follows.
            entry = unsafe { entry.add(1) };
        }
        (tables.symbols != 0 && tables.strings != 0).then_some(tables)
    }

    fn symbol(&self, tables: &Tables, index: u32) -> &Symbol {
        // SAFETY: the index comes out of the object's own hash table.
        unsafe { &*(tables.symbols as *const Symbol).add(index as usize) }
    }

    /// Whether symbol `index` is a function of this name that the object defines.
    fn defines(&self, tables: &Tables, index: u32, name: &CStr) -> bool {
        const NO_TYPE: u8 = 0;
        const FUNCTION: u8 = 2;
        let symbol = self.symbol(tables, index);
        // SAFETY: names are offsets of C strings in the string table.
        let its_name = || unsafe { CStr::from_ptr((tables.strings as *const c_char).add(symbol.name as usize)) };
        symbol.section != 0 && matches!(symbol.info & 15, NO_TYPE | FUNCTION) && its_name() == name
    }

    /// The System V hash table: number of buckets, number of symbols, the buckets, the chains.
    fn by_hash(&self, tables: &Tables, table: usize, name: &CStr) -> Option<u32> {
        let table = table as *const u32;
        // SAFETY: the table begins with these two words.
        let count = unsafe { *table.add(1) };
        (0..count).find(|index| self.defines(tables, *index, name))
    }

    /// The GNU hash table: number of buckets, first symbol, size and shift of the filter, the filter, the buckets, and one
    /// word for each symbol, its hash, the lowest bit of which ends a bucket.
    fn by_gnu_hash(&self, tables: &Tables, table: usize, name: &CStr) -> Option<u32> {
        let table = table as *const u32;
        // SAFETY: the table begins with these four words.
        let &[buckets, first, filter, _shift] = unsafe { &*table.cast::<[u32; 4]>() };
        let hash =
            name.to_bytes().iter().fold(5381_u32, |hash, byte| hash.wrapping_mul(33).wrapping_add((*byte).into()));
        // SAFETY: the buckets follow the filter, which has words of eight bytes.
        let bucket = unsafe { table.add(4 + 2 * filter as usize) };
        if buckets == 0 {
            return None;
        }
        // SAFETY: there are `buckets` of them, then the chains.
        let (mut index, chain) = unsafe { (*bucket.add((hash % buckets) as usize), bucket.add(buckets as usize)) };
        if index < first {
            return None;
        }
        loop {
            // SAFETY: a chain has a word for each symbol from `first` on, and the walk stops at its last one.
            let word = unsafe { *chain.add((index - first) as usize) };
            if word | 1 == hash | 1 && self.defines(tables, index, name) {
                return Some(index);
            }
            if word & 1 == 1 {
                return None;
            }
            index += 1;
        }
    }
}
