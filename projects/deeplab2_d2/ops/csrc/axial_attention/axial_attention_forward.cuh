// What each query retrieves, by softmax while the keys go by.
#pragma once

#include <cstdint>
#include <limits>

#include "axial_attention_tile_sums.cuh"
#include "axial_attention_views.cuh"

namespace deeplab2_d2 {
namespace {

// Similarities of queries (rows) with keys (columns).
template <typename scalar_t, typename T = Accumulated<scalar_t>>
__device__ __forceinline__ Similarity<scalar_t, scalar_t, T, T> query_logits(
    const AttentionView<scalar_t>& view, int64_t sequence, int32_t head) {
  const auto queries = view.queries(sequence, head), keys = view.keys(sequence, head);
  const T* scale = view.logit_scale + head;
  return {view.key_depth,
          queries,
          keys,
          scale[0],
          queries,
          view.encodings(view.by_query, false),
          scale[view.heads],
          keys,
          view.encodings(view.by_key, false),
          scale[2 * view.heads]};
}

// The maximum and the sum of exponentials of 4 rows' logits, as columns go by; of a lane's columns
// until `finish`.
template <typename T>
struct RunningSoftmax {
  T largest[kLane], total[kLane];

  __device__ RunningSoftmax() {
    for (int x = 0; x < kLane; ++x) {
      largest[x] = -std::numeric_limits<T>::infinity();
      total[x] = 0;
    }
  }

  // logits: -infinity where nothing is seen; then weights. rescale(row, factor) is called before
  // weights are added to others.
  template <typename Rescale>
  __device__ void add(Pairs<T>& logits, const Rescale& rescale) {
#pragma unroll
    for (int x = 0; x < kLane; ++x) {
      T next = largest[x];
      for (int y = 0; y < kLane; ++y) {
        next = max(next, logits[x][y]);
      }
      next = largest_across(next);
      const T origin = next == -std::numeric_limits<T>::infinity() ? T(0) : next;
      const T factor = exp(largest[x] - origin);
      largest[x] = next;
      total[x] *= factor;
      rescale(x, factor);
      for (int y = 0; y < kLane; ++y) {
        logits[x][y] = exp(logits[x][y] - origin);
        total[x] += logits[x][y];
      }
    }
  }

  __device__ void finish() {
    for (int x = 0; x < kLane; ++x) {
      total[x] = sum_across(total[x]);
    }
  }
};

template <typename T, bool kOfRelative>
__device__ __forceinline__ void hide(const Rows<T, kOfRelative>& rows, const Corner& corner,
                                     Pairs<T>& logits) {
#pragma unroll
  for (int x = 0; x < kLane; ++x) {
#pragma unroll
    for (int y = 0; y < kLane; ++y) {
      if (!rows.sees(corner, x, y)) {
        logits[x][y] = -std::numeric_limits<T>::infinity();
      }
    }
  }
}

template <typename T>
__device__ __forceinline__ void fill(T value, Pairs<T>& pairs) {
#pragma unroll
  for (int x = 0; x < kLane; ++x) {
#pragma unroll
    for (int y = 0; y < kLane; ++y) {
      pairs[x][y] = value;
    }
  }
}

// Writes a block's rows of kChannels channels, which lie in shared.results. All threads call it.
template <typename scalar_t, typename T>
__device__ __forceinline__ void write_rows(const T* results, int32_t first_row, int32_t num_rows,
                                           int32_t num_channels, int64_t stride, scalar_t* out) {
  using Tile = SharedTile<T>;
  for (int c = Lane{}.warp; c < min(num_channels, kChannels); c += Tile::kWarps) {
    for (int x = lane_of_thread(); x < Tile::kRows && first_row + x < num_rows; x += kWarp) {
      out[c * stride + first_row + x] = static_cast<scalar_t>(results[c * Tile::kResultStride + x]);
    }
  }
}

// A block has kRows queries of a sequence and head, and kParts * kChannels channels of values.
template <typename scalar_t, int kParts>
__global__ void __launch_bounds__(SharedTile<Accumulated<scalar_t>>::kThreads, kBlocksAtOnce)
    attend_kernel(AttentionView<scalar_t> view, int32_t num_tiles, int32_t num_chunks,
                  scalar_t* out) {
  using T = Accumulated<scalar_t>;
  __shared__ SharedTile<T> shared;
  const BlockPlace place(num_tiles, num_chunks, view.heads);
  const Rows<T, false> rows{{view.length, view.reach}, place.tile * SharedTile<T>::kRows};
  const auto logits_of = query_logits(view, place.sequence, place.head);
  const auto values =
      view.retrieve_content ? view.values(place.sequence, place.head) : Source<scalar_t, T>{};
  const auto encodings = view.encodings(view.by_value, false);
  const int32_t first_channel = place.chunk * kParts * kChannels;
  const T shift = view.logit_shift[place.head];
  Pairs<T> content[kParts] = {}, encoding[kParts] = {};
  RunningSoftmax<T> softmax;
  for (int32_t column = rows.first_column(); column < rows.end_column(); column += kColumns) {
    const Corner corner = rows.corner(column);
    const bool is_active = rows.is_active(column);
    Pairs<T> weights;
    fill(shift, weights);
    add_similarities(logits_of, corner, is_active, shared, weights);
    if (is_active) {
      hide(rows, corner, weights);
      softmax.add(weights, [&](int x, T factor) {
        for_each_part<kParts>([&](int part) {
#pragma unroll
          for (int c = 0; c < kLane; ++c) {
            content[part][x][c] *= factor;
            encoding[part][x][c] *= factor;
          }
        });
      });
      store_weights(weights, shared);
    }
    const int num_columns = min(rows.end_column() - column, kColumns);
    for_each_part<kParts>([&](int part) {
      retrieve(values, encodings, first_channel + part * kChannels, view.value_depth, corner,
               num_columns, is_active, shared, content[part], encoding[part]);
    });
  }
  softmax.finish();
  for_each_part<kParts>([&](int part) {
#pragma unroll
    for (int x = 0; x < kLane; ++x) {
#pragma unroll
      for (int c = 0; c < kLane; ++c) {
        content[part][x][c] /= softmax.total[x];
        encoding[part][x][c] /= softmax.total[x];
      }
    }
    __syncthreads();
    store_results(content[part], shared.results[0]);
    store_results(encoding[part], shared.results[1]);
    __syncthreads();
    const int32_t channel = first_channel + part * kChannels;
    for (int32_t kind = 0; kind < view.num_retrieved(); ++kind) {
      const int which = kind == 0 && view.retrieve_content ? 0 : 1;
      write_rows(
          shared.results[which], rows.first, view.length, view.value_depth - channel, view.stride(),
          out + view.retrieved_offset(place.sequence, place.head, kind) + channel * view.stride());
    }
  });
}

}  // namespace
}  // namespace deeplab2_d2
