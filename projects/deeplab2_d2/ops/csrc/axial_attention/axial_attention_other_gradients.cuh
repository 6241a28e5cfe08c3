// Gradients of axial attention of which queries are the columns: of keys and values, and of the
// encodings.
#pragma once

#include <cstdint>

#include "axial_attention_query_gradients.cuh"

namespace deeplab2_d2 {
namespace {

// What the other two kernels' rows, of which queries are the columns, retrieve of a sequence.
template <typename x_t, typename y_t, typename z_t, typename T>
struct Retrieved {
  Source<y_t, T> by_gradients;           // of the logits; their gradients are retrieved of y
  Source<z_t, T> by_diagonal_gradients;  // and of z
  Source<y_t, T> by_weights;
  Similarity<x_t, y_t, z_t, T> logits, gradients;
};

template <typename T, int kParts>
struct RetrievedSums {
  Pairs<T> by_gradients = {}, by_diagonal_gradients = {}, by_weights[kParts] = {};
};

// Adds what is retrieved of one sequence in the chunk's channels. All threads call it.
template <typename x_t, typename y_t, typename z_t, typename T, bool kOfRelative, int kParts>
__device__ __forceinline__ void retrieve_of_queries(const Retrieved<x_t, y_t, z_t, T>& of,
                                                    const Rows<T, kOfRelative>& rows, int32_t chunk,
                                                    T shift, const Statistics<T>& statistics,
                                                    int64_t first_query, SharedTile<T>& shared,
                                                    RetrievedSums<T, kParts>& sums) {
  const Lane lane{};
  const int32_t length = rows.visible.length;
  for (int32_t column = rows.first_column(); column < rows.end_column(); column += kColumns) {
    const Corner corner = rows.corner(column);
    const bool is_active = rows.is_active(column);
    const int num_columns = min(rows.end_column() - column, kColumns);
    Pairs<T> weights, gradients;
    fill(shift, weights);
    fill(T(0), gradients);
    add_similarities(of.logits, corner, is_active, shared, weights);
    add_similarities(of.gradients, corner, is_active, shared, gradients);
    if (is_active) {
      T log_total[kLane], mean[kLane];
      statistics.read(first_query, column + lane.column, length, log_total, mean);
      differentiate<false>(rows, corner, log_total, mean, weights, gradients);
      store_weights(gradients, shared);
    }
    if (chunk * kChannels < of.logits.depth) {
      retrieve(of.by_gradients, of.by_diagonal_gradients, chunk * kChannels, of.logits.depth,
               corner, num_columns, is_active, shared, sums.by_gradients,
               sums.by_diagonal_gradients);
    }
    __syncwarp();
    if (is_active) {
      store_weights(weights, shared);
    }
    for_each_part<kParts>([&](int part) {
      const int32_t channel = (chunk * kParts + part) * kChannels;
      if (of.by_weights.exists() && channel < of.gradients.depth) {
        Pairs<T> none;
        retrieve(of.by_weights, Source<z_t, T>{}, channel, of.gradients.depth, corner, num_columns,
                 is_active, shared, sums.by_weights[part], none);
      }
    });
  }
}

// A block has kRows keys of a sequence and head, kChannels of their channels and kParts times as
// many of the values'.
template <typename scalar_t, int kParts>
__global__ void __launch_bounds__(SharedTile<Accumulated<scalar_t>>::kThreads, kBlocksAtOnce)
    key_gradient_kernel(AttentionView<scalar_t> view, int32_t num_tiles, int32_t num_chunks,
                        Statistics<Accumulated<scalar_t>> statistics,
                        PartialSums<Accumulated<scalar_t>> sums, scalar_t* raw_gradient) {
  using T = Accumulated<scalar_t>;
  __shared__ SharedTile<T> shared;
  const BlockPlace place(num_tiles, num_chunks, view.heads);
  const int64_t sequence = place.sequence;
  const int32_t head = place.head;
  const Rows<T, false> rows{{view.length, view.reach}, place.tile * SharedTile<T>::kRows};
  const auto queries = view.queries(sequence, head), keys = view.keys(sequence, head);
  const auto by_key = view.encodings(view.by_key, true);
  const T* scale = view.logit_scale + head;
  const T key_scale = scale[2 * view.heads];
  const Retrieved<scalar_t, scalar_t, T, T> of = {
      queries,
      by_key,
      view.content_gradients(sequence, head),
      {view.key_depth, keys, queries, scale[0], keys, by_key, key_scale, queries,
       view.encodings(view.by_query, true), scale[view.heads]},
      {view.value_depth,
       view.values(sequence, head),
       view.content_gradients(sequence, head),
       T(1),
       {},
       {},
       T(0),
       view.encoding_gradients(sequence, head),
       view.encodings(view.by_value, true),
       T(1)}};
  RetrievedSums<T, kParts> found;
  const int64_t first_query = (sequence * view.heads + head) * view.length;
  retrieve_of_queries(of, rows, place.chunk, view.logit_shift[head], statistics, first_query,
                      shared, found);
  __syncthreads();
  store_results(found.by_gradients, shared.results[0]);
  store_results(found.by_diagonal_gradients, shared.results[1]);
  __syncthreads();
  const int64_t block = sequence * num_tiles + place.tile;
  const int32_t channel = place.chunk * kChannels;
  T products[2] = {}, of_values[2] = {};
  finish_channels(view, sequence, block, rows.first,
                  {view.key_channel(head) + channel, view.key_depth - channel}, shared.results[0],
                  scale[0], shared.results[1], key_scale, sums, raw_gradient, products);
  write_products(sums, place, num_chunks, num_tiles, view.heads, 2, products[1]);
  for_each_part<kParts>([&](int part) {
    const int32_t first = (place.chunk * kParts + part) * kChannels;
    __syncthreads();
    store_results(found.by_weights[part], shared.results[0]);
    __syncthreads();
    finish_channels<scalar_t, T>(view, sequence, block, rows.first,
                                 {view.value_channel(head) + first, view.value_depth - first},
                                 shared.results[0], T(1), nullptr, T(0), sums, raw_gradient,
                                 of_values);
  });
}

// Writes a block's relative positions, counted forwards, from (channels, rows). All threads call
// it.
template <typename T>
__device__ __forceinline__ void write_relative(const T* results, int32_t first_row,
                                               int32_t num_rows, int32_t num_channels, T factor,
                                               T* out) {
  using Tile = SharedTile<T>;
  for (int c = Lane{}.warp; c < min(num_channels, kChannels); c += Tile::kWarps) {
    for (int x = lane_of_thread(); x < Tile::kRows && first_row + x < num_rows; x += kWarp) {
      out[c * static_cast<int64_t>(num_rows) + num_rows - 1 - first_row - x] =
          results[c * Tile::kResultStride + x] * factor;
    }
  }
}

// A block has kRows relative positions, of the encodings' channels as many as above, a head, and a
// part of the sequences, which go by.
//
// tables: (parts, H, 2 D + E, R): of queries, keys and values.
template <typename scalar_t, int kParts>
__global__ void __launch_bounds__(SharedTile<Accumulated<scalar_t>>::kThreads, kBlocksAtOnce)
    encoding_gradient_kernel(AttentionView<scalar_t> view, int32_t num_tiles, int32_t num_chunks,
                             int32_t num_parts, int64_t num_sequences,
                             Statistics<Accumulated<scalar_t>> statistics,
                             Accumulated<scalar_t>* tables) {
  using T = Accumulated<scalar_t>;
  __shared__ SharedTile<T> shared;
  const BlockPlace place(num_tiles, num_chunks, view.heads);
  const int32_t head = place.head;
  const Rows<T, true> rows{{view.length, view.reach}, place.tile * SharedTile<T>::kRows};
  const auto by_query = view.encodings(view.by_query, true);
  const auto by_key = view.encodings(view.by_key, true);
  const T* scale = view.logit_scale + head;
  RetrievedSums<T, kParts> found;
  const int64_t end = num_sequences * (place.sequence + 1) / num_parts;
  for (int64_t sequence = num_sequences * place.sequence / num_parts; sequence < end; ++sequence) {
    const auto queries = view.queries(sequence, head), keys = view.keys(sequence, head);
    const Retrieved<T, scalar_t, scalar_t, T> of = {
        by_query.exists() ? queries : Source<scalar_t, T>{},
        by_key.exists() ? keys : Source<scalar_t, T>{},
        view.encoding_gradients(sequence, head),
        {view.key_depth, by_query, queries, scale[view.heads], by_key, keys, scale[2 * view.heads],
         queries, keys, scale[0]},
        {view.value_depth,
         view.encodings(view.by_value, true),
         view.encoding_gradients(sequence, head),
         T(1),
         {},
         {},
         T(0),
         view.content_gradients(sequence, head),
         view.values(sequence, head),
         T(1)}};
    const int64_t first_query = (sequence * view.heads + head) * view.length;
    retrieve_of_queries(of, rows, place.chunk, view.logit_shift[head], statistics, first_query,
                        shared, found);
  }
  const int32_t num_rows = rows.visible.num_rows(), channel = place.chunk * kChannels;
  T* out = tables + (place.sequence * view.heads + head) * (2 * view.key_depth + view.value_depth) *
                        static_cast<int64_t>(num_rows);
  __syncthreads();
  store_results(found.by_gradients, shared.results[0]);
  store_results(found.by_diagonal_gradients, shared.results[1]);
  __syncthreads();
  for (int32_t which = 0; which < 2; ++which) {
    write_relative(shared.results[which], rows.first, num_rows, view.key_depth - channel,
                   scale[(1 + which) * view.heads],
                   out + (which * view.key_depth + channel) * static_cast<int64_t>(num_rows));
  }
  for_each_part<kParts>([&](int part) {
    const int32_t first = (place.chunk * kParts + part) * kChannels;
    __syncthreads();
    store_results(found.by_weights[part], shared.results[0]);
    __syncthreads();
    write_relative(shared.results[0], rows.first, num_rows, view.value_depth - first, T(1),
                   out + (2 * view.key_depth + first) * static_cast<int64_t>(num_rows));
  });
}

}  // namespace
}  // namespace deeplab2_d2
