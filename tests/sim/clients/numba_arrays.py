"""numba-cuda allocates, copies and frees arrays (nothing runs on them)."""

import numpy
from numba import cuda

sent = numpy.arange(1 << 20, dtype=numpy.float32)
before, _ = cuda.current_context().get_memory_info()
array = cuda.to_device(sent)
assert before - cuda.current_context().get_memory_info()[0] == sent.nbytes
assert (array.copy_to_host() == sent).all()
cuda.current_context().reset()
assert cuda.current_context().get_memory_info()[0] == before
assert len(cuda.gpus) == 2
