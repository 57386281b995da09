pub mod progress {
    use crate::units::ByteSize;
    pub struct ProgressBars;
    impl ProgressBars {
        pub fn new(_: &[u32]) -> Self {
            Self
        }
        pub fn set(&mut self, _: u32, _: ByteSize, _: ByteSize) {}
        pub fn finish(self) {}
    }
}
