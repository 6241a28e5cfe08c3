// Stands for PyTorch's header of this name where kernels run on the CPU.
#pragma once

#include "../../cuda_on_cpu.h"

namespace c10::cuda {

inline int getCurrentCUDAStream() { return 0; }

}  // namespace c10::cuda
