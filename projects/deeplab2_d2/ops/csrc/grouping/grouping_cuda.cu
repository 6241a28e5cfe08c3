// Work division: one thread a pixel, one block a tile. The block first bounds where its pixels
// point to and keeps the centers that may be nearest to any of them (a few of many, see
// grouping_device.cuh) in shared memory; each thread compares those.
#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include "grouping.h"
#include "grouping_device.cuh"

namespace deeplab2_d2 {
namespace {

__global__ void group_kernel(const float* centers, const int32_t* num_centers, int32_t num_rows,
                             const float* offsets, int32_t height, int32_t width, int32_t* result) {
  __shared__ GroupingTile tile;
  const int64_t image = blockIdx.y, area = static_cast<int64_t>(height) * width;
  const TilePixel pixel = tile_pixel(height, width);
  const int64_t index = static_cast<int64_t>(pixel.y) * width + pixel.x;
  float target_y = 0.0f, target_x = 0.0f;
  if (pixel.is_inside) {
    const float* offset = offsets + image * 2 * area;
    target_y = static_cast<float>(pixel.y) + offset[index];
    target_x = static_cast<float>(pixel.x) + offset[area + index];
  }
  const int32_t nearest = nearest_center(tile, centers + image * num_rows * 2,
                                         max(0, min(num_centers[image], num_rows)), pixel.is_inside,
                                         target_y, target_x);
  if (pixel.is_inside) {
    result[image * area + index] = nearest;
  }
}

at::Tensor group_pixels_cuda(const at::Tensor& centers, const at::Tensor& num_centers,
                             const at::Tensor& offsets) {
  TORCH_CHECK(offsets.dim() == 4 && offsets.size(1) == 2,
              "group_pixels: offsets must be (N, 2, H, W), got ", offsets.sizes());
  TORCH_CHECK(offsets.is_floating_point(), "group_pixels: offsets must be float, got ",
              offsets.dtype());
  check_centers("group_pixels", centers, num_centers, offsets.size(0));
  TORCH_CHECK(offsets.device() == centers.device(), "group_pixels: offsets must be on ",
              centers.device(), ", got ", offsets.device());
  const int64_t num_images = offsets.size(0), height = offsets.size(2), width = offsets.size(3);
  TORCH_CHECK(num_images < 65536 && height * width < (int64_t(1) << 31),
              "group_pixels: at most 65535 images of 2**31 - 1 pixels, got ", offsets.sizes());
  TORCH_CHECK(centers.size(1) < (int64_t(1) << 30),
              "group_pixels: on a GPU fewer than 2**30 centers, got ", centers.size(1));
  const c10::cuda::CUDAGuard guard(offsets.device());
  at::Tensor result = at::empty({num_images, height, width}, offsets.options().dtype(at::kInt));
  if (result.numel() == 0) {
    return result;
  }
  const at::Tensor maps = offsets.to(at::kFloat).contiguous();
  const at::Tensor points = centers.contiguous(), counts = num_centers.contiguous();
  const dim3 blocks(count_tiles(height, width), num_images);
  group_kernel<<<blocks, kTileThreads, 0, c10::cuda::getCurrentCUDAStream()>>>(
      points.const_data_ptr<float>(), counts.const_data_ptr<int32_t>(), centers.size(1),
      maps.const_data_ptr<float>(), height, width, result.mutable_data_ptr<int32_t>());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return result;
}

}  // namespace

TORCH_LIBRARY_IMPL(deeplab2_d2, CUDA, m) { m.impl("group_pixels", &group_pixels_cuda); }

}  // namespace deeplab2_d2
