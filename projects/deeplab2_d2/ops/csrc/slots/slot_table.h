// Classes, order, pasting and the segment table of the slots of one image, on the CPU.
#pragma once

#include <cstdint>
#include <vector>

#include "slots.h"

namespace deeplab2_d2 {

// What one call works with, apart from the maps.
struct SlotRules {
  int64_t num_slots, num_classes, label_divisor;
  bool is_mask_wise;
  std::vector<int32_t> channel_to_class;
  std::vector<uint8_t> is_thing;  // by class
  float thing_threshold, stuff_threshold, mask_threshold, overlap_threshold;
  double class_weight, mask_weight;
  int64_t thing_area_limit, stuff_area_limit;
};

// Of each slot.
struct SlotClasses {
  std::vector<int32_t> category;
  std::vector<float> confidence;
  std::vector<uint8_t> is_thing;
  std::vector<int32_t> confident;  // the confident slots, ascending
  bool has_any;                    // whether any slot passes the lower of the two thresholds
};

// class_logits: (S, C + 1), void last.
SlotClasses classify_slots(const SlotRules& rules, const double* class_logits);

// Pixels by their slots: (S) of the slot alone and, mask-wise, (S, S) of a pair; integers, so that
// they do not depend on how the pixels are divided among threads.
struct SlotCounts {
  explicit SlotCounts(const SlotRules& rules)
      : single(rules.num_slots), pair(rules.is_mask_wise ? rules.num_slots * rules.num_slots : 0) {}

  void add_run(int32_t code, int64_t length) {
    const int32_t first = code & kNoSlot, second = (code >> 16) & kNoSlot;
    if (first == kNoSlot) {
      return;
    }
    if (second == kNoSlot) {
      single[first] += length;
    } else {
      pair[first * static_cast<int64_t>(single.size()) + second] += length;
    }
  }

  void add(const SlotCounts& other);

  std::vector<int64_t> single;
  std::vector<int32_t> pair;
};

// Sums of probabilities above the mask threshold, in units of 2**-24, and their number: (S).
struct MaskScores {
  explicit MaskScores(int64_t num_slots) : unit(num_slots), count(num_slots) {}

  void add(const MaskScores& other);

  std::vector<int64_t> unit, count;
};

// The place of each slot in the order of pasting.
std::vector<int32_t> rank_slots(const SlotRules& rules, const SlotClasses& classes,
                                const MaskScores& scores);

// The segments of one image. Row s is the thing of slot s, row S + c the stuff class c.
struct SlotSegments {
  std::vector<int32_t> rank;       // (S)
  std::vector<int64_t> slot_area;  // (S) pixels, 0 if the slot was not pasted
  std::vector<int32_t> row;        // (S) the slot's row, -1 if its segment is absent
  std::vector<int64_t> area;       // (S + C) 0 if absent
  std::vector<int32_t> label;      // (S + C) -1 if absent
};

// Decides which masks are pasted, and which segments are large enough.
SlotSegments decide_segments(const SlotRules& rules, const SlotClasses& classes,
                             const std::vector<int32_t>& rank, const SlotCounts& counts);

// Rectangles and sums of confidences, in units of 2**-24, of the S + C segments.
struct SegmentExtents {
  explicit SegmentExtents(int64_t num_rows) : boxes(num_rows), unit(num_rows) {}

  void add(const SegmentExtents& other);

  std::vector<Box> boxes;
  std::vector<int64_t> unit;
};

// Where the outputs of one image stand: (S + C), the box (S + C, 4).
struct SlotTable {
  int32_t *label, *category, *area, *box;
  float *objectness, *probability;
  int32_t* segment_slot;
};

void write_slot_table(const SlotRules& rules, const SlotClasses& classes,
                      const SlotSegments& segments, const SegmentExtents& extents,
                      const SlotTable& table);

}  // namespace deeplab2_d2
