// Gradients of axial attention, and those of queries. Weights are computed anew in each kernel,
// from a query's statistics that the first one writes.
#pragma once

#include <cstdint>

#include "axial_attention_forward.cuh"

namespace deeplab2_d2 {
namespace {

// (sequences, H, L), of each query.
template <typename T>
struct Statistics {
  T* log_total;  // logarithm of the sum of the logits' exponentials
  T* mean;       // of the weights' gradients, by the weights

  // Of a lane's queries, zeros beyond the last; first: of a sequence and head.
  __device__ void read(int64_t first, int32_t query, int32_t num_queries, T (&log_totals)[kLane],
                       T (&means)[kLane]) const {
#pragma unroll
    for (int i = 0; i < kLane; ++i) {
      const bool exists = query + i < num_queries;
      log_totals[i] = exists ? log_total[first + query + i] : T(0);
      means[i] = exists ? mean[first + query + i] : T(0);
    }
  }
};

// Sums over a block's rows, or a warp's, of which the host makes those over all.
template <typename T>
struct PartialSums {
  T *scale, *shift;      // (sequences x tiles, channels)
  T* logit_scale;        // (3, sums_of_term, H)
  int64_t sums_of_term;  // sequences x chunks x tiles x warps
};

// Logits to weights, and gradients of weights to those of logits. statistics: of the lane's 4 rows
// or columns.
template <bool kOfRows, typename T, bool kOfRelative>
__device__ __forceinline__ void differentiate(const Rows<T, kOfRelative>& rows,
                                              const Corner& corner, const T* log_total,
                                              const T* mean, Pairs<T>& weights,
                                              Pairs<T>& gradients) {
#pragma unroll
  for (int x = 0; x < kLane; ++x) {
#pragma unroll
    for (int y = 0; y < kLane; ++y) {
      const int query = kOfRows ? x : y;
      weights[x][y] = rows.sees(corner, x, y) ? exp(weights[x][y] - log_total[query]) : T(0);
      gradients[x][y] = weights[x][y] * (gradients[x][y] - mean[query]);
    }
  }
}

template <typename T>
__device__ __forceinline__ T sum_of_lanes(T value) {
  for (int distance = kWarp / 2; distance > 0; distance /= 2) {
    value += __shfl_xor_sync(kAllLanes, value, distance);
  }
  return value;
}

// Of channels of normalised queries, keys or values, where they are in raw.
struct RawChannels {
  int32_t first, count;
};

// From what a block's rows have in shared.results, gradients of their normalised channels: those of
// raw ones are written, sums for the norm's, and products with the channels added to `products`.
//
// encoding: null if there is only content. All threads of the block call it.
template <typename scalar_t, typename T>
__device__ __forceinline__ void finish_channels(const AttentionView<scalar_t>& view,
                                                int64_t sequence, int64_t block, int32_t first_row,
                                                const RawChannels& channels, const T* content,
                                                T content_factor, const T* encoding,
                                                T encoding_factor, const PartialSums<T>& sums,
                                                scalar_t* raw_gradient, T (&products)[2]) {
  using Tile = SharedTile<T>;
  for (int c = Lane{}.warp; c < min(channels.count, kChannels); c += Tile::kWarps) {
    const int32_t channel = channels.first + c;
    const int64_t begin = view.offset(sequence, view.num_channels(), channel);
    const T scale = view.scale[channel], shift = view.shift[channel];
    T of_scale = 0, of_shift = 0;
    for (int x = lane_of_thread(); x < Tile::kRows && first_row + x < view.length; x += kWarp) {
      const T value = static_cast<T>(view.raw[begin + first_row + x]);
      const T normalised = fma(value, scale, shift);
      const T by_content = content[c * Tile::kResultStride + x];
      const T by_encoding = encoding == nullptr ? T(0) : encoding[c * Tile::kResultStride + x];
      products[0] = fma(normalised, by_content, products[0]);
      products[1] = fma(normalised, by_encoding, products[1]);
      const T gradient = fma(by_content, content_factor, by_encoding * encoding_factor);
      of_scale = fma(gradient, value, of_scale);
      of_shift += gradient;
      raw_gradient[begin + first_row + x] = static_cast<scalar_t>(gradient * scale);
    }
    of_scale = sum_of_lanes(of_scale);
    of_shift = sum_of_lanes(of_shift);
    if (lane_of_thread() == 0) {
      sums.scale[block * view.num_channels() + channel] = of_scale;
      sums.shift[block * view.num_channels() + channel] = of_shift;
    }
  }
}

// Writes what a warp has found of a term of the logits' scales.
template <typename T>
__device__ __forceinline__ void write_products(const PartialSums<T>& sums, const BlockPlace& place,
                                               int32_t num_chunks, int32_t num_tiles,
                                               int32_t num_heads, int32_t term, T product) {
  product = sum_of_lanes(product);
  const int64_t block = (place.sequence * num_chunks + place.chunk) * num_tiles + place.tile;
  const int64_t index = term * sums.sums_of_term + block * SharedTile<T>::kWarps + Lane{}.warp;
  if (lane_of_thread() == 0) {
    sums.logit_scale[index * num_heads + place.head] = product;
  }
}

// Gradients of what queries (rows) retrieve, by their weights of keys (columns).
template <typename scalar_t, typename T = Accumulated<scalar_t>>
__device__ __forceinline__ Similarity<scalar_t, scalar_t, T, T> weight_gradients(
    const AttentionView<scalar_t>& view, int64_t sequence, int32_t head) {
  return {view.value_depth,
          view.content_gradients(sequence, head),
          view.values(sequence, head),
          T(1),
          view.encoding_gradients(sequence, head),
          view.encodings(view.by_value, false),
          T(1),
          {},
          {},
          T(0)};
}

// A block has kRows queries of a sequence and head.
template <typename scalar_t>
__global__ void __launch_bounds__(SharedTile<Accumulated<scalar_t>>::kThreads, kBlocksAtOnce)
    statistics_kernel(AttentionView<scalar_t> view, int32_t num_tiles,
                      Statistics<Accumulated<scalar_t>> statistics) {
  using T = Accumulated<scalar_t>;
  __shared__ SharedTile<T> shared;
  const Lane lane{};
  const BlockPlace place(num_tiles, 1, view.heads);
  const Rows<T, false> rows{{view.length, view.reach}, place.tile * SharedTile<T>::kRows};
  const auto logits_of = query_logits(view, place.sequence, place.head);
  const auto gradients_of = weight_gradients(view, place.sequence, place.head);
  const T shift = view.logit_shift[place.head];
  RunningSoftmax<T> softmax;
  T mean[kLane] = {};
  for (int32_t column = rows.first_column(); column < rows.end_column(); column += kColumns) {
    const Corner corner = rows.corner(column);
    const bool is_active = rows.is_active(column);
    Pairs<T> weights, gradients;
    fill(shift, weights);
    fill(T(0), gradients);
    add_similarities(logits_of, corner, is_active, shared, weights);
    add_similarities(gradients_of, corner, is_active, shared, gradients);
    if (!is_active) {
      continue;
    }
    hide(rows, corner, weights);
    softmax.add(weights, [&](int x, T factor) { mean[x] *= factor; });
#pragma unroll
    for (int x = 0; x < kLane; ++x) {
#pragma unroll
      for (int y = 0; y < kLane; ++y) {
        mean[x] = fma(weights[x][y], gradients[x][y], mean[x]);
      }
    }
  }
  softmax.finish();
  for (int x = 0; x < kLane; ++x) {
    const int32_t query = rows.first + lane.row + x;
    mean[x] = sum_across(mean[x]);
    if (lane.column == 0 && query < view.length) {
      const int64_t index = (place.sequence * view.heads + place.head) * view.length + query;
      statistics.log_total[index] = softmax.largest[x] + log(softmax.total[x]);
      statistics.mean[index] = mean[x] / softmax.total[x];
    }
  }
}

// A block has kRows queries of a sequence and head, and kChannels of their channels.
template <typename scalar_t>
__global__ void __launch_bounds__(SharedTile<Accumulated<scalar_t>>::kThreads, kBlocksAtOnce)
    query_gradient_kernel(AttentionView<scalar_t> view, int32_t num_tiles, int32_t num_chunks,
                          Statistics<Accumulated<scalar_t>> statistics,
                          PartialSums<Accumulated<scalar_t>> sums, scalar_t* raw_gradient) {
  using T = Accumulated<scalar_t>;
  __shared__ SharedTile<T> shared;
  const BlockPlace place(num_tiles, num_chunks, view.heads);
  const int64_t sequence = place.sequence;
  const Rows<T, false> rows{{view.length, view.reach}, place.tile * SharedTile<T>::kRows};
  const auto logits_of = query_logits(view, sequence, place.head);
  const auto gradients_of = weight_gradients(view, sequence, place.head);
  const T shift = view.logit_shift[place.head];
  T log_total[kLane], mean[kLane];
  statistics.read((sequence * view.heads + place.head) * view.length, rows.first + Lane{}.row,
                  view.length, log_total, mean);
  Pairs<T> content = {}, encoding = {};
  const int32_t channel = place.chunk * kChannels;
  for (int32_t column = rows.first_column(); column < rows.end_column(); column += kColumns) {
    const Corner corner = rows.corner(column);
    const bool is_active = rows.is_active(column);
    Pairs<T> weights, gradients;
    fill(shift, weights);
    fill(T(0), gradients);
    add_similarities(logits_of, corner, is_active, shared, weights);
    add_similarities(gradients_of, corner, is_active, shared, gradients);
    if (is_active) {
      differentiate<true>(rows, corner, log_total, mean, weights, gradients);
      store_weights(gradients, shared);
    }
    retrieve(logits_of.y_with_x, logits_of.z_with_x, channel, view.key_depth, corner,
             min(rows.end_column() - column, kColumns), is_active, shared, content, encoding);
  }
  __syncthreads();
  store_results(content, shared.results[0]);
  store_results(encoding, shared.results[1]);
  __syncthreads();
  T products[2] = {};
  finish_channels(view, sequence, sequence * num_tiles + place.tile, rows.first,
                  {view.query_channel(place.head) + channel, view.key_depth - channel},
                  shared.results[0], logits_of.xy, shared.results[1], logits_of.xz, sums,
                  raw_gradient, products);
  for (int32_t term = 0; term < 2; ++term) {
    write_products(sums, place, num_chunks, num_tiles, view.heads, term, products[term]);
  }
}

}  // namespace
}  // namespace deeplab2_d2
