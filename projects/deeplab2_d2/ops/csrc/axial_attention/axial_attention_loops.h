// One sequence and head of position-sensitive attention; loops of float are compiled for several
// instruction sets.
//
// Letters: L positions, D channels of a head's keys, E of its values, R = 2 L - 1 relative
// positions (m - l + L - 1 for query l and key m). "Columns" hold a position's channels side by
// side, (positions, channels); "rows" a channel's positions, (channels, positions). Both are padded
// with zeros to multiples of kVectorLanes.
#pragma once

#include <cstdint>

namespace deeplab2_d2 {

// Values that are computed together.
constexpr int64_t kVectorLanes = 8;

// Queries or keys whose sums are made together: they share what is summed.
constexpr int64_t kRowsAtOnce = 4;

// Queries that are treated together, so that what they share stays in the cache.
constexpr int64_t kStrip = 32;

constexpr int64_t padded(int64_t count) {
  return (count + kVectorLanes - 1) / kVectorLanes * kVectorLanes;
}

struct AttentionSize {
  int64_t length;       // L
  int64_t key_depth;    // D
  int64_t value_depth;  // E
  int64_t reach;        // a query sees keys at most so far away
  bool use_content, retrieve_content, retrieve_encoding;

  int64_t num_relative() const { return 2 * length - 1; }
  int64_t positions() const { return padded(length); }
  // Maps of (query, key) have zeros around them, so that sums of several queries or keys may begin
  // and end together.
  int64_t map_stride() const { return positions() + 2 * kVectorLanes; }
  int64_t map_elements() const { return (length + 2 * kVectorLanes) * map_stride(); }
  int64_t map_origin() const { return kVectorLanes * map_stride() + kVectorLanes; }
  // A row of relative positions that can be read from any query on, in steps of kVectorLanes.
  int64_t relative_positions() const { return padded(positions() + length); }
  int64_t key_columns() const { return padded(key_depth); }
  int64_t value_columns() const { return padded(value_depth); }
  int64_t first_visible(int64_t place) const { return place > reach ? place - reach : 0; }
  int64_t end_visible(int64_t place) const {
    return place + reach + 1 < length ? place + reach + 1 : length;
  }
};

// What all sequences share of one head. Zeros stand for tables that the attention has not.
template <typename T>
struct AttentionTables {
  T content_scale, query_scale, key_scale, logit_shift;
  const T* query_rows;     // (D, relative_positions), times query_scale
  const T* key_rows;       // (D, relative_positions), times key_scale
  const T* value_columns;  // (R, value_columns)
  const T* query_columns;  // (R, key_columns); these three for backward
  const T* key_columns;    // (R, key_columns)
  const T* value_rows;     // (E, relative_positions)
};

// Normalised queries, keys and values.
template <typename T>
struct AttentionSequence {
  const T* query;          // (L, key_columns)
  const T* scaled_query;   // the same, times content_scale
  const T* key_rows;       // (D, positions)
  const T* value_columns;  // (L, value_columns)
  const T* key_columns;    // (L, key_columns); these two for backward
  const T* value_rows;     // (E, positions)
};

// content, encoding: (L, value_columns), what each query retrieves of values and of their
// encodings; what the attention does not retrieve is left alone. weights: zeros,
// (kStrip, map_stride), of which those at the edges stay.
void attend(const AttentionSize& size, const AttentionTables<float>& tables,
            const AttentionSequence<float>& sequence, float* weights, float* content,
            float* encoding);
void attend(const AttentionSize& size, const AttentionTables<double>& tables,
            const AttentionSequence<double>& sequence, double* weights, double* content,
            double* encoding);

// Gradients of one sequence and head. Those of the first three are written, the others added to.
template <typename T>
struct AttentionGradients {
  T* query;          // (L, key_columns)
  T* key;            // (L, key_columns)
  T* value;          // (L, value_columns)
  T* query_columns;  // (R, key_columns), of the table without its scale
  T* key_columns;    // (R, key_columns)
  T* value_columns;  // (R, value_columns)
  T* scales;         // (4): of content_scale, query_scale, key_scale, logit_shift
};

// content, encoding: (L, value_columns), gradients of what `attend` gives, zeros where it gives
// nothing. weights, logits: zeros, map_elements, of which those at the edges stay; scratch:
// kRowsAtOnce times the larger of key_columns and value_columns.
void attend_backward(const AttentionSize& size, const AttentionTables<float>& tables,
                     const AttentionSequence<float>& sequence, const float* content,
                     const float* encoding, float* weights, float* logits, float* scratch,
                     const AttentionGradients<float>& gradients);
void attend_backward(const AttentionSize& size, const AttentionTables<double>& tables,
                     const AttentionSequence<double>& sequence, const double* content,
                     const double* encoding, double* weights, double* logits, double* scratch,
                     const AttentionGradients<double>& gradients);

}  // namespace deeplab2_d2
