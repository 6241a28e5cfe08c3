// Tiles of pairs of positions, and the sums over them of which all kernels of axial attention are
// made.
//
// Three kinds of positions count: queries l, keys m and relative ones r = m - l + L - 1. A kernel
// takes one of them as the rows x of its tiles, another as their columns y, so that the third, the
// diagonal z = y - x + L - 1, follows; what is relative then counts backwards where it must. A
// similarity is a sum of products of x with y, of x with z and of y with z, and what x retrieves of
// y or of z is a sum over y.
//
// A block has kRows rows, a warp 16 of them, a lane 4 x 4 pairs, or what 4 rows retrieve in 4
// channels: each number that it loads from shared memory takes part in 2 to 4 products. Channels
// come through shared memory a few at a time, positions side by side as in memory.
#pragma once

#include <cstdint>

#include "../warp.cuh"

namespace deeplab2_d2 {
namespace {

constexpr int kLane = 4;        // rows, and columns or channels, of a lane
constexpr int kLanesOfRow = 8;  // lanes of a warp along the columns or channels
constexpr int kWarpRows = kWarp / kLanesOfRow * kLane;
constexpr int kColumns = kLanesOfRow * kLane;
constexpr int kChannels = kColumns;  // that are retrieved together
// Rows of shared memory of which 8 lanes store 4 neighbouring numbers each in different banks.
constexpr int kStride = kColumns + 4;

// On a multiprocessor: what 168 registers a thread allow.
constexpr int kBlocksAtOnce = 3;

// Four numbers that are loaded or stored at once.
template <typename T>
struct alignas(16) Four {
  T of[kLane];
};

template <typename T>
__device__ __forceinline__ Four<T> load_four(const T* from) {
  return *reinterpret_cast<const Four<T>*>(from);
}

template <typename T>
__device__ __forceinline__ void store_four(const Four<T>& values, T* to) {
  *reinterpret_cast<Four<T>*>(to) = values;
}

// A block's shared memory: 33 KiB of float, 36 of double, so that registers, not this, limit how
// many blocks a multiprocessor has.
template <typename T>
struct alignas(16) SharedTile {
  static constexpr int kWarps = 16 / sizeof(T);
  static constexpr int kThreads = kWarps * kWarp;
  static constexpr int kRows = kWarps * kWarpRows;
  static constexpr int kWindow = kRows + kColumns;  // diagonals
  static constexpr int kDepth = 64 / sizeof(T);     // channels multiplied at a time
  static constexpr int kResultStride = kRows + 4;

  union {
    struct {
      T x[2][kDepth * kRows], y[2][kDepth * kColumns], z[2][kDepth * kWindow];
    } factors;  // (channels, positions)
    struct {
      T y[kColumns * kStride], z[kWindow * kStride];
    } retrieved;                              // (positions, channels)
    T results[2][kChannels * kResultStride];  // (channels, rows)
  };
  T weights[kRows * kStride];  // (rows, columns)
};

// call(0), ... call(kCount - 1): unrolled even where #pragma unroll leaves a loop, and with it
// arrays in local memory.
template <int kCount, typename Call>
__device__ __forceinline__ void for_each_part(const Call& call) {
  if constexpr (kCount > 1) {
    for_each_part<kCount - 1>(call);
  }
  call(kCount - 1);
}

// Where a thread's pairs lie in its block's tile.
struct Lane {
  int warp = static_cast<int>(threadIdx.x) / kWarp;
  int row = warp * kWarpRows + lane_of_thread() / kLanesOfRow * kLane;
  int column = lane_of_thread() % kLanesOfRow * kLane;  // or channel
};

// Channels of positions in global memory. Without values all are zero.
template <typename value_t, typename T>
struct Source {
  const value_t* values;   // of the first channel
  int64_t stride;          // of channels
  const T *scale, *shift;  // of channels; null for values as they are
  int32_t count;           // of positions, zeros around them
  bool is_reversed;

  __device__ bool exists() const { return values != nullptr; }

  // A channel on, at a position from anywhere.
  struct Reader {
    const value_t* next;
    int64_t step;
    bool is_inside;
  };
  __device__ Reader reader(int32_t position, int32_t channel, int32_t channels_apart) const {
    position = is_reversed ? count - 1 - position : position;
    const int32_t nearest = min(max(position, 0), count - 1);
    return {values + channel * stride + nearest, channels_apart * stride, position == nearest};
  }

  __device__ T read(Reader& at, int32_t channel) const {
    T value = static_cast<T>(__ldg(at.next));
    at.next += at.step;
    if (scale != nullptr) {
      value = fma(value, __ldg(scale + channel), __ldg(shift + channel));
    }
    return at.is_inside ? value : T(0);
  }
};

// Where a tile begins.
struct Corner {
  int32_t x, y, z;
};

// num_channels of kCount positions, of each channel side by side. All threads call it.
template <int kCount, typename value_t, typename T>
__device__ __forceinline__ void stage_rows(const Source<value_t, T>& source, int32_t first_channel,
                                           int num_channels, int32_t first, T* rows) {
#pragma unroll 1
  for (int i = lane_of_thread(); i < kCount; i += kWarp) {
    auto reader = source.reader(first + i, first_channel + Lane{}.warp, SharedTile<T>::kWarps);
#pragma unroll 4
    for (int c = Lane{}.warp; c < num_channels; c += SharedTile<T>::kWarps) {
      rows[c * kCount + i] = source.read(reader, first_channel + c);
    }
  }
}

// kChannels channels of kCount positions, of each position side by side; zeros from `depth` on.
template <int kCount, typename value_t, typename T>
__device__ __forceinline__ void stage_columns(const Source<value_t, T>& source,
                                              int32_t first_channel, int32_t depth, int32_t first,
                                              T* columns) {
#pragma unroll 1
  for (int i = lane_of_thread(); i < kCount; i += kWarp) {
#pragma unroll 1
    for (int c = kLane * Lane{}.warp; c < kChannels; c += kLane * SharedTile<T>::kWarps) {
      auto reader = source.reader(first + i, first_channel + c, 1);
      Four<T> values;
#pragma unroll
      for (int k = 0; k < kLane; ++k) {
        const int32_t channel = first_channel + c + k;
        values.of[k] = channel < depth ? source.read(reader, channel) : T(0);
      }
      store_four(values, columns + i * kStride + c);
    }
  }
}

}  // namespace
}  // namespace deeplab2_d2
