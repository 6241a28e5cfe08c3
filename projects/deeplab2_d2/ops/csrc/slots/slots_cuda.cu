// Work division: a warp a slot finds its class. Then a warp works on a tile of the output: each
// thread has 4 neighbours of a row, which lie between the same 2 or 3 columns of the map (one
// pixel, if the map is hardly smaller than the output), so that 4 or 6 numbers of a slot's map, in
// the cache for the warp's next row, give 4 logits. It goes over the slots twice or, where not all
// are confident, three times: for the largest logit, the largest of a confident slot, and the sum
// of exponentials; it keeps none of them. A pixel's (at most two) slots are packed into the
// panoptic map, and counted by warp. One block an image decides which masks are pasted and which
// segments exist. At last a warp a strip of 32 x 4 pixels looks labels up, and adds boxes and
// confidences up, by warp too; all sums are of integers, so that their order does not matter.
// Mask-wise, a kernel before does the same on the map itself, for the order of the masks.
#include <ATen/Dispatch.h>
#include <ATen/ops/zeros.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include "slot_images_device.cuh"

namespace deeplab2_d2 {
namespace {

constexpr int kThreads = 128;

int64_t divide_up(int64_t number, int64_t divisor) { return (number + divisor - 1) / divisor; }

// How many pixels of a map's axis the output is interpolated from.
int32_t covered_length(int64_t count, int64_t source_length, float scale) {
  const float position = static_cast<float>(count - 1) * scale;
  const int64_t lower = std::min(static_cast<int64_t>(position), source_length - 1);
  const bool is_between = position - static_cast<float>(lower) > 0.0f;
  return static_cast<int32_t>(std::min(lower + 1 + is_between, source_length));
}

SlotLimits make_limits(const SlotOptions& options) {
  return {options.is_mask_wise,
          static_cast<float>(options.class_thresholds[0]),
          static_cast<float>(options.class_thresholds[1]),
          static_cast<float>(options.mask_threshold),
          static_cast<float>(options.overlap_threshold),
          options.rank_weights[0],
          options.rank_weights[1],
          options.label_divisor,
          options.area_limits[0],
          options.area_limits[1]};
}

// One call: its memory, and its kernels in their order.
class SlotPass {
 public:
  SlotPass(const SlotOptions& options, const SlotFrame& frame, const ThingFlags& flags,
           int64_t num_images, int64_t num_classes, const SlotOutputs& out)
      : limits_(make_limits(options)),
        frame_(frame),
        flags_(flags),
        num_images_(num_images),
        num_classes_(num_classes) {
    const int64_t num_slots = frame.num_slots;
    const int64_t slots = num_images * num_slots, rows = num_images * (num_slots + num_classes);
    const int64_t pairs = options.is_mask_wise ? slots * num_slots : 0;
    memory_ = at::zeros({slots + rows + divide_up(5 * slots + pairs, 2)},
                        out.label.options().dtype(at::kLong));
    int64_t* longs = memory_.mutable_data_ptr<int64_t>();
    auto* units = reinterpret_cast<unsigned long long*>(longs);
    auto* counts = reinterpret_cast<int32_t*>(longs + slots + rows);
    work_ = {units,
             units + slots,
             counts,
             counts + slots,
             counts + 5 * slots,
             counts + 2 * slots,
             counts + 3 * slots,
             counts + 4 * slots};
    columns_ = {
        out.class_confidence.mutable_data_ptr<float>(), out.rank.mutable_data_ptr<int32_t>(),
        out.label.mutable_data_ptr<int32_t>(),          out.category.mutable_data_ptr<int32_t>(),
        out.area.mutable_data_ptr<int32_t>(),           out.box.mutable_data_ptr<int32_t>(),
        out.segment_slot.mutable_data_ptr<int32_t>(),   out.objectness.mutable_data_ptr<float>(),
        out.probability.mutable_data_ptr<float>()};
    images_ = {out.panoptic.mutable_data_ptr<int32_t>(), out.semantic.mutable_data_ptr<int32_t>(),
               out.slot.mutable_data_ptr<int32_t>(), out.confidence.mutable_data_ptr<float>()};
  }

  void classify(const at::Tensor& class_logits, const ChannelClasses& classes) const {
    const dim3 blocks(divide_up(int64_t(frame_.num_slots) * kWarp, kThreads), num_images_);
    classify_kernel<<<blocks, kThreads, 0, stream_>>>(
        class_logits.const_data_ptr<double>(), frame_.num_slots,
        static_cast<int32_t>(class_logits.size(2) - 1), classes, work_.category,
        columns_.confidence);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  }

  template <typename value_t>
  void compare(const at::Tensor& mask_logits) const {
    const SlotLogits<value_t> logits{
        mask_logits.const_data_ptr<value_t>(),
        mask_logits.size(1) * mask_logits.size(2) * mask_logits.size(3), work_.category,
        columns_.confidence};
    if (limits_.is_mask_wise && limits_.mask_weight > 0.0) {
      SlotFrame covered = frame_;
      covered.height = covered_length(frame_.height, frame_.map_height, frame_.scale_y);
      covered.width = covered_length(frame_.width, frame_.map_width, frame_.scale_x);
      covered.scale_y = covered.scale_x = 1.0f;
      score_kernel<value_t><<<tile_blocks(covered, 1), kSlotThreads, 0, stream_>>>(
          covered, limits_, flags_, logits, work_);
      C10_CUDA_KERNEL_LAUNCH_CHECK();
    }
    // Up to this width positions are exact enough: 4 neighbours at a scale of 0.33 lie less than 1
    // apart, and at 0.25 in the same map pixel.
    const bool is_narrow = frame_.width <= 1 << 18;
    if (frame_.height == frame_.map_height && frame_.width == frame_.map_width &&
        frame_.scale_y == 1.0f && frame_.scale_x == 1.0f) {
      predict<value_t, 1, 1>(logits);
    } else if (is_narrow && frame_.scale_x == 0.25f) {
      predict<value_t, 4, 2>(logits);
    } else if (is_narrow && frame_.scale_x <= 0.33f) {
      predict<value_t, 4, 3>(logits);
    } else {
      predict<value_t, 1, 2>(logits);
    }
  }

  void label() const {
    const int64_t num_rows = frame_.num_slots + num_classes_;
    decide_kernel<<<num_images_, divide_up(frame_.num_slots, kWarp) * kWarp, 0, stream_>>>(
        frame_.num_slots, static_cast<int32_t>(num_classes_), limits_, flags_, work_, columns_);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
    const int64_t strips = divide_up(frame_.height, kStripHeight) * divide_up(frame_.width, kWarp);
    label_kernel<<<dim3(divide_up(strips, kStripThreads / kWarp), num_images_), kStripThreads, 0,
                   stream_>>>(frame_.height, frame_.width, frame_.num_slots,
                              static_cast<int32_t>(num_rows), limits_.is_mask_wise, work_, columns_,
                              images_);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
    finish_kernel<<<divide_up(num_images_ * num_rows, kThreads), kThreads, 0, stream_>>>(
        num_images_ * num_rows, work_.row_unit, columns_);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  }

 private:
  dim3 tile_blocks(const SlotFrame& frame, int64_t pixels) const {
    const int64_t tiles =
        divide_up(frame.height, kLanesDown) * divide_up(frame.width, kLanesAcross * pixels);
    return dim3(divide_up(tiles, kSlotWarps), num_images_);
  }

  template <typename value_t, int kPixels, int kColumns>
  void predict(const SlotLogits<value_t>& logits) const {
    const dim3 blocks = tile_blocks(frame_, kPixels);
    predict_kernel<value_t, kPixels, kColumns>
        <<<blocks, kSlotThreads, 0, stream_>>>(frame_, limits_, flags_, logits, work_, images_);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  }

  const SlotLimits limits_;
  const SlotFrame frame_;
  const ThingFlags flags_;
  const int64_t num_images_, num_classes_;
  const decltype(c10::cuda::getCurrentCUDAStream()) stream_ = c10::cuda::getCurrentCUDAStream();
  at::Tensor memory_;
  SlotWorkspace work_;
  SlotColumns columns_;
  SlotImages images_;
};

SlotFrame make_frame(const at::Tensor& mask_logits, const SlotOptions& options) {
  constexpr int64_t kTooMany = int64_t(1) << 31;
  TORCH_CHECK(mask_logits.size(0) < 65536 && mask_logits.size(2) < kTooMany / mask_logits.size(3),
              "panoptic_from_slots: on a GPU at most 65535 images, and maps of less than 2**31 "
              "pixels, got ",
              mask_logits.sizes());
  return {static_cast<int32_t>(mask_logits.size(1)), static_cast<int32_t>(mask_logits.size(2)),
          static_cast<int32_t>(mask_logits.size(3)), static_cast<int32_t>(options.size[0]),
          static_cast<int32_t>(options.size[1]),     static_cast<float>(options.scale[0]),
          static_cast<float>(options.scale[1])};
}

SlotsResult panoptic_from_slots_cuda(const at::Tensor& mask_logits, const at::Tensor& class_logits,
                                     at::IntArrayRef channel_to_class, at::IntArrayRef thing_ids,
                                     at::IntArrayRef size, at::ArrayRef<double> scale,
                                     int64_t label_divisor, bool is_mask_wise,
                                     at::ArrayRef<double> class_thresholds, double mask_threshold,
                                     double overlap_threshold, at::ArrayRef<double> rank_weights,
                                     at::IntArrayRef area_limits) {
  const char* name = "panoptic_from_slots";
  const SlotOptions options{channel_to_class,
                            thing_ids,
                            size,
                            scale,
                            label_divisor,
                            is_mask_wise,
                            class_thresholds,
                            mask_threshold,
                            overlap_threshold,
                            rank_weights,
                            area_limits};
  const int64_t num_classes = check_slots(mask_logits, class_logits, options);
  const ThingFlags flags = thing_flags(name, thing_ids, num_classes);
  const ChannelClasses channels = channel_classes(name, channel_to_class);
  const SlotFrame frame = make_frame(mask_logits, options);
  const c10::cuda::CUDAGuard guard(mask_logits.device());
  const SlotOutputs out(mask_logits, options, num_classes);
  if (mask_logits.size(0) == 0) {
    return out.result();
  }
  const bool is_half =
      mask_logits.scalar_type() == at::kHalf || mask_logits.scalar_type() == at::kBFloat16;
  // Half precision is read as it is: a copy in float32 would be large.
  const at::Tensor masks = (is_half ? mask_logits : mask_logits.to(at::kFloat)).contiguous();
  const at::Tensor classes = class_logits.to(at::kDouble).contiguous();
  const SlotPass pass(options, frame, flags, masks.size(0), num_classes, out);
  pass.classify(classes, channels);
  AT_DISPATCH_SWITCH(masks.scalar_type(), "panoptic_from_slots", AT_DISPATCH_CASE(at::kFloat, [&] {
                       pass.compare<scalar_t>(masks);
                     }) AT_DISPATCH_CASE(at::kHalf, [&] {
                       pass.compare<scalar_t>(masks);
                     }) AT_DISPATCH_CASE(at::kBFloat16, [&] { pass.compare<scalar_t>(masks); }));
  pass.label();
  return out.result();
}

}  // namespace

TORCH_LIBRARY_IMPL(deeplab2_d2, CUDA, m) {
  m.impl("panoptic_from_slots", &panoptic_from_slots_cuda);
}

}  // namespace deeplab2_d2
