/** Pictures become upright RGB in the preprocessing of an encoder, or are refused by name. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';
import { describe, expect, test } from 'vitest';
import { loadImage } from '../src/data/images.ts';
import { PREPROCESSINGS, preprocessingOf } from '../src/data/preprocessing.ts';
import { temporaryFolder } from './support.ts';

const folder = temporaryFolder();

describe('pictures', () => {
  test('EXIF orientation, transparency and gray are all turned into upright RGB', async () => {
    const p = { ...PREPROCESSINGS.imagenet, size: 8, mean: [0, 0, 0] as const, deviation: [1, 1, 1] as const };
    const half = await sharp({ create: { width: 8, height: 8, channels: 3, background: '#000' } })
      .composite([{ input: { create: { width: 8, height: 4, channels: 3, background: '#fff' } }, top: 0, left: 0 }])
      .jpeg({ quality: 100 })
      .withMetadata({ orientation: 3 })
      .toBuffer();
    writeFileSync(join(folder, 'turned.jpg'), half);
    const turned = await loadImage(join(folder, 'turned.jpg'), p);
    expect(turned[0]).toBeLessThan(0.1); // white half is at the bottom after a turn of 180°
    expect(turned[63]).toBeGreaterThan(0.9);
    await sharp({ create: { width: 4, height: 4, channels: 4, background: { r: 0, g: 0, b: 0, alpha: 0 } } })
      .png()
      .toFile(join(folder, 'clear.png'));
    expect((await loadImage(join(folder, 'clear.png'), p))[0]).toBeCloseTo(1);
    await sharp({ create: { width: 4, height: 4, channels: 3, background: '#808080' } })
      .grayscale()
      .png()
      .toFile(join(folder, 'gray.png'));
    expect(await loadImage(join(folder, 'gray.png'), p)).toHaveLength(192);
  });

  test('a corrupt, truncated or missing picture is refused with its name', async () => {
    const good = await sharp({ create: { width: 64, height: 64, channels: 3, background: '#c33' } })
      .jpeg()
      .toBuffer();
    writeFileSync(join(folder, 'cut.jpg'), good.subarray(0, good.length / 2));
    writeFileSync(join(folder, 'text.jpg'), 'this is no picture');
    for (const name of ['cut.jpg', 'text.jpg', 'absent.jpg'])
      await expect(loadImage(join(folder, name), PREPROCESSINGS.imagenet)).rejects.toThrow(
        new RegExp(`${name.replace('.', '\\.')}: cannot be read as a picture`),
      );
  });
});

test('preprocessings by name and size', () => {
  expect(preprocessingOf('imagenet@448')).toEqual({ ...PREPROCESSINGS.imagenet, size: 448 });
  for (const bad of ['imagenet@', 'imagenet@7', 'imagenet@99999', 'toString', 'imagenet@x']) expect(() => preprocessingOf(bad)).toThrow();
});
