// What the kernels of axial attention read: a sequence's queries, keys and values, gradients and
// encodings, and which pairs of positions there are.
#pragma once

#include <cstdint>

#include "axial_attention.h"
#include "axial_attention_tiles.cuh"

namespace deeplab2_d2 {
namespace {

// N images, S sequences of an image, L positions, H heads; D and E channels of a head's keys and
// values; R = 2 L - 1.
template <typename scalar_t>
struct AttentionView {
  using T = Accumulated<scalar_t>;

  const scalar_t* raw;                    // (N, H (2 D + E), S, L)
  const scalar_t* grad;                   // (N, kinds retrieved x H E, S, L); null in forward
  const T *scale, *shift;                 // (H (2 D + E))
  const T *logit_scale, *logit_shift;     // (3, H), (H)
  const T *by_query, *by_key, *by_value;  // encodings, (D, R), (D, R), (E, R), or null
  int64_t others;                         // S
  int32_t length, heads, key_depth, value_depth, reach;
  bool retrieve_content;

  __device__ int64_t stride() const { return others * length; }
  __device__ int32_t num_channels() const { return heads * (2 * key_depth + value_depth); }
  __device__ int32_t query_channel(int32_t head) const { return head * key_depth; }
  __device__ int32_t key_channel(int32_t head) const { return (heads + head) * key_depth; }
  __device__ int32_t value_channel(int32_t head) const {
    return 2 * heads * key_depth + head * value_depth;
  }
  // Where a channel of a sequence begins in a tensor of so many channels.
  __device__ int64_t offset(int64_t sequence, int32_t channels, int32_t channel) const {
    return ((sequence / others * channels + channel) * others + sequence % others) * length;
  }

  __device__ Source<scalar_t, T> normalised(int64_t sequence, int32_t channel) const {
    return {raw + offset(sequence, num_channels(), channel),
            stride(),
            scale + channel,
            shift + channel,
            length,
            false};
  }
  __device__ Source<scalar_t, T> queries(int64_t sequence, int32_t head) const {
    return normalised(sequence, query_channel(head));
  }
  __device__ Source<scalar_t, T> keys(int64_t sequence, int32_t head) const {
    return normalised(sequence, key_channel(head));
  }
  __device__ Source<scalar_t, T> values(int64_t sequence, int32_t head) const {
    return normalised(sequence, value_channel(head));
  }

  __device__ int32_t num_retrieved() const { return retrieve_content + (by_value != nullptr); }
  // Where what a head retrieves of a kind (0 or 1) begins.
  __device__ int64_t retrieved_offset(int64_t sequence, int32_t head, int32_t kind) const {
    return offset(sequence, num_retrieved() * heads * value_depth,
                  (kind * heads + head) * value_depth);
  }
  __device__ Source<scalar_t, T> gradients(int64_t sequence, int32_t head, int32_t kind) const {
    return {
        grad + retrieved_offset(sequence, head, kind), stride(), nullptr, nullptr, length, false};
  }
  __device__ Source<scalar_t, T> content_gradients(int64_t sequence, int32_t head) const {
    return retrieve_content ? gradients(sequence, head, 0) : Source<scalar_t, T>{};
  }
  __device__ Source<scalar_t, T> encoding_gradients(int64_t sequence, int32_t head) const {
    return by_value != nullptr ? gradients(sequence, head, retrieve_content)
                               : Source<scalar_t, T>{};
  }

  __device__ Source<T, T> encodings(const T* table, bool is_reversed) const {
    const int32_t count = 2 * length - 1;
    return {table, count, nullptr, nullptr, count, is_reversed};
  }
};

// Which pairs of rows x and columns y see each other, their diagonal being z = y - x + L - 1.
//
// kOfRelative: rows are relative positions, counted backwards, columns queries, diagonals keys;
// otherwise rows and columns are queries and keys, or keys and queries.
template <bool kOfRelative>
struct Visible {
  int32_t length, reach;

  __device__ int32_t num_rows() const { return kOfRelative ? 2 * length - 1 : length; }

  __device__ bool operator()(int32_t x, int32_t y) const {
    const int32_t z = y - x + length - 1;
    const int32_t relative = (kOfRelative ? x : z) - (length - 1), other = kOfRelative ? z : x;
    return relative >= -reach && relative <= reach && y < length && other >= 0 && other < length;
  }

  // Columns that some row from `first` to `last` sees: from the first on, up to the second.
  __device__ int32_t first_column(int32_t first) const {
    return max(first - (kOfRelative ? length - 1 : reach), 0);
  }
  __device__ int32_t end_column(int32_t first, int32_t last) const {
    if (kOfRelative) {
      const bool is_near = first - (length - 1) <= reach && last - (length - 1) >= -reach;
      return is_near ? min(last + 1, length) : 0;
    }
    return first < length ? min(last + reach + 1, length) : 0;
  }
};

// The rows of a block, and for its warps which columns concern them.
template <typename T, bool kOfRelative>
struct Rows {
  static constexpr int kRows = SharedTile<T>::kRows;

  const Visible<kOfRelative> visible;
  const int32_t first;
  const int32_t warp_first = first + Lane{}.warp * kWarpRows;

  __device__ int32_t first_column() const { return visible.first_column(first); }
  __device__ int32_t end_column() const { return visible.end_column(first, first + kRows - 1); }
  __device__ bool is_active(int32_t column) const {
    const int32_t last = warp_first + kWarpRows - 1;
    return column + kColumns > visible.first_column(warp_first) &&
           column < visible.end_column(warp_first, last);
  }
  __device__ Corner corner(int32_t column) const {
    return {first, column, column - first - kRows + visible.length};
  }
  // Of the lane's row x and column y.
  __device__ bool sees(const Corner& corner, int x, int y) const {
    const Lane lane{};
    return visible(corner.x + lane.row + x, corner.y + lane.column + y);
  }
};

// Which rows, channels, head and sequence a block has; blocks next to each other share the last.
struct BlockPlace {
  int32_t tile, chunk, head;
  int64_t sequence;

  __device__ BlockPlace(int32_t num_tiles, int32_t num_chunks, int32_t num_heads) {
    int64_t index = blockIdx.x;
    tile = static_cast<int32_t>(index % num_tiles);
    index /= num_tiles;
    chunk = static_cast<int32_t>(index % num_chunks);
    index /= num_chunks;
    head = static_cast<int32_t>(index % num_heads);
    sequence = index / num_heads;
  }
};

}  // namespace
}  // namespace deeplab2_d2
