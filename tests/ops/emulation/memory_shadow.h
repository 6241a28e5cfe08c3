// Remembers who used which memory in a launch, and reports uses that no wait orders.
//
// Two uses of a byte by different threads are a race if one of them writes, they are not both
// atomic, and neither a wait of the block nor, within a warp, __syncwarp lies between them. Between
// blocks nothing orders. Shuffles and votes order no memory, as the CUDA C++ guide says; volatile
// loads and stores count as atomic. A load of shared memory that no thread of the block has stored
// to is reported, too. Not modelled: fences, and waits of parts of a warp.
#pragma once

#include <cstddef>
#include <cstdint>

namespace cuda_on_cpu {

enum class Use : uint8_t { kLoad, kStore, kVolatileLoad, kAtomic };

// Called by the compiler's own calls (sanitizer_calls.cpp) and by atomic functions before the use.
// code: an address in the kernel, just behind the call.
void before_use(const void* address, size_t bytes, Use use, const void* code);
// The same for an atomic function; the code is where it is called.
void before_atomic(const void* address, size_t bytes);

namespace shadow {

bool is_on();
void begin_launch(const char* kernel);
void begin_block(uint32_t block);
void add_shared(const char* name, const void* address, size_t bytes);
// Orders what the block's or the warp's threads did before.
void order_block();
void order_warp(unsigned warp);
void remember(unsigned thread, const void* address, size_t bytes, Use use, const void* code);

}  // namespace shadow
}  // namespace cuda_on_cpu
