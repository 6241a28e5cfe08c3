// Counts that a block makes in its shared memory, so that few atomics reach global memory: its
// pixels, neighbours in the image, are of few segments.
#pragma once

#include <cstdint>

namespace deeplab2_d2 {

// Places of a block's table, and how many are tried for a key.
constexpr int32_t kTallyPlaces = 64;
constexpr int32_t kTallyTries = 8;
constexpr unsigned long long kNoKey = ~0ull;

// The keys that have a place, each its own; the counts stand beside them, by place.
struct TallyKeys {
  unsigned long long keys[kTallyPlaces];

  __device__ __forceinline__ void clear(int32_t place) { keys[place] = kNoKey; }

  // The place of a key, taken if it has none yet; -1 if those that it may have are others'.
  __device__ __forceinline__ int32_t find(unsigned long long key) {
    uint32_t place = static_cast<uint32_t>((key * 0x9E3779B97F4A7C15ull) >> 32) % kTallyPlaces;
    for (int32_t tried = 0; tried < kTallyTries; ++tried) {
      const unsigned long long found = atomicCAS(&keys[place], kNoKey, key);
      if (found == kNoKey || found == key) {
        return static_cast<int32_t>(place);
      }
      place = (place + 1) % kTallyPlaces;
    }
    return -1;
  }
};

}  // namespace deeplab2_d2
