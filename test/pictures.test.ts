/** Pictures become upright RGB in the preprocessing of an encoder, or are refused by name. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';
import { describe, expect, test } from 'vitest';
import { inspectPicture, loadImage } from '../src/data/images.ts';
import { PictureFolder, picturePath, picturesIn } from '../src/data/picture_folder.ts';
import { PREPROCESSINGS, preprocessingOf } from '../src/data/preprocessing.ts';
import { glimpse, temporaryFolder } from './support.ts';

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

const photograph = (format: 'jpeg' | 'png' | 'webp' | 'gif' | 'tiff' | 'avif', width = 16) =>
  sharp({ create: { width, height: 9, channels: 3, background: '#c33' } })
    .toFormat(format)
    .toBuffer();

const HEIC = Buffer.concat([Buffer.from([0, 0, 0, 24]), Buffer.from('ftypheic\0\0\0\0mif1heic'), Buffer.alloc(40)]);
const BMP = Buffer.concat([Buffer.from('BM'), Buffer.from([218, 0, 0, 0, 0, 0, 0, 0, 122, 0, 0, 0, 108]), Buffer.alloc(80)]);

describe('what inspectPicture finds sound, loadImage reads; what it refuses, loadImage refuses in the same words', () => {
  const both = async (path: string): Promise<string | null> => {
    const fault = await inspectPicture(path);
    if (fault) await expect(loadImage(path, PREPROCESSINGS.imagenet)).rejects.toThrow(fault.message);
    else expect(await loadImage(path, { ...PREPROCESSINGS.imagenet, size: 4 })).toHaveLength(48);
    return fault ? fault.message : null;
  };
  const at = (name: string) => join(folder, name);

  test.each(['jpeg', 'png', 'webp', 'gif', 'tiff', 'avif'] as const)('%s', async (format) => {
    writeFileSync(at('sound'), await photograph(format));
    expect(await both(at('sound'))).toBeNull();
  });

  test('CMYK, 16 bits, palettes and animations are read', async () => {
    const picture = sharp({ create: { width: 8, height: 8, channels: 3, background: '#2a4' } });
    writeFileSync(at('cmyk.jpg'), await picture.clone().toColourspace('cmyk').jpeg().toBuffer());
    writeFileSync(at('16.png'), await picture.clone().toColourspace('rgb16').png().toBuffer());
    writeFileSync(at('palette.png'), await picture.clone().png({ palette: true }).toBuffer());
    const frames = Buffer.concat([Buffer.alloc(192, 0), Buffer.alloc(192, 255)]);
    writeFileSync(
      at('moving.gif'),
      await sharp(frames, { raw: { width: 8, height: 16, channels: 3, pageHeight: 8 } })
        .gif()
        .toBuffer(),
    );
    for (const name of ['cmyk.jpg', '16.png', 'palette.png', 'moving.gif']) expect(await both(at(name))).toBeNull();
    const plain = { ...PREPROCESSINGS.imagenet, size: 4, mean: [0, 0, 0] as const, deviation: [1, 1, 1] as const };
    const green = (pixels: Float32Array) => [pixels[0], pixels[16], pixels[32]];
    for (const name of ['cmyk.jpg', '16.png', 'palette.png'])
      for (const [i, value] of green(await loadImage(at(name), plain)).entries()) expect(Math.abs(value - [34, 170, 68][i] / 255), name).toBeLessThan(0.1); // CMYK has fewer colors
    expect((await loadImage(at('moving.gif'), plain))[0]).toBe(0); // the first picture
  });

  test.each([
    ['b.heic', HEIC, /HEIC cannot be decoded here; convert it, e\.g\. to JPEG/],
    ['HEIC in disguise.jpg', HEIC, /HEIC cannot be decoded here/],
    ['c.bmp', BMP, /BMP cannot be decoded here; convert it/],
    ['d.pdf', Buffer.from('%PDF-1.7 and so on'), /PDF cannot be decoded here/],
    ['e.jpg', Buffer.from('<!doctype html><html>not found</html>'), /a web page cannot be decoded here/],
    ['f.jpg', Buffer.from('this is no picture'), /no picture in a format that is known here/],
    ['empty.jpg', Buffer.alloc(0), /the file is empty/],
  ])('%s', async (name, bytes, message) => {
    writeFileSync(at(name), bytes);
    expect(await both(at(name))).toMatch(message);
  });

  test('damage at the very end, too many pixels, what is no file', async () => {
    const whole = await sharp({ create: { width: 200, height: 200, channels: 3, background: '#c33', noise: { type: 'gaussian', mean: 128, sigma: 60 } } })
      .jpeg()
      .toBuffer();
    writeFileSync(at('cut at the end.jpg'), whole.subarray(0, whole.length - 400));
    expect(await both(at('cut at the end.jpg'))).toMatch(/its JPEG is damaged .*premature end/);
    writeFileSync(
      at('large.png'),
      await sharp({ create: { width: 10_001, height: 10_000, channels: 3, background: '#000' } })
        .png()
        .toBuffer(),
    );
    expect(await both(at('large.png'))).toMatch(/10001 × 10000 pixels, and 100 million are the most/);
    mkdirSync(at('folder.jpg'));
    expect(await both(at('folder.jpg'))).toMatch(/it is a folder/);
    expect(await both(at('absent.jpg'))).toMatch(/no such file/);
    if (process.platform === 'win32') return;
    execFileSync('mkfifo', [at('pipe.jpg')]);
    expect(await both(at('pipe.jpg'))).toMatch(/it is a named pipe/);
    expect(await both('/dev/zero')).toMatch(/it is a device/);
  });
});

test('a folder gives its pictures, by ending or content; the others are left out with their cause', async () => {
  const own = join(folder, 'mixed');
  mkdirSync(join(own, 'within'), { recursive: true });
  const jpeg = await photograph('jpeg');
  for (const name of ['a.JPG', 'd', '._a.jpg', '.hidden']) writeFileSync(join(own, name), jpeg);
  writeFileSync(join(own, 'b.heic'), HEIC);
  writeFileSync(join(own, 'c.bmp'), BMP);
  writeFileSync(join(own, 'notes.txt'), 'text');
  writeFileSync(join(own, 'broken.jpg'), 'text'); // meant as a picture, so it is a fault and not left out here
  const { pictures, leftOut } = await picturesIn([join(own, 'b.heic'), own]);
  expect(pictures).toEqual(['b.heic', 'a.JPG', 'broken.jpg', 'd'].map((name) => join(own, name)));
  expect(Object.fromEntries(leftOut.map(({ path, why }) => [path.slice(own.length + 1), why]))).toEqual({
    '._a.jpg': expect.stringContaining('macOS'),
    '.hidden': 'a hidden file',
    'b.heic': 'HEIC cannot be decoded here; convert it, e.g. to JPEG',
    'c.bmp': 'BMP cannot be decoded here; convert it, e.g. to JPEG',
    'notes.txt': 'no picture',
    within: expect.stringContaining('folder'),
  });
  const phones = join(folder, 'phones');
  mkdirSync(phones);
  writeFileSync(join(phones, 'x.heic'), HEIC);
  await expect(picturesIn([phones])).rejects.toThrow(/phones: holds no picture .*x\.heic: HEIC cannot be decoded here/);
});

test('a picture folder finds a name in either form, and tells what nobody named', async () => {
  const own = join(folder, 'named');
  mkdirSync(join(own, 'd\u0065\u0301j\u00e0'), { recursive: true });
  writeFileSync(join(own, 'd\u0065\u0301j\u00e0', 'vu.jpg'), '');
  writeFileSync(join(own, 'other.jpg'), '');
  const pictures = new PictureFolder(own);
  expect(pictures.find('d\u00e9ja\u0300/vu.jpg')).toBe('d\u0065\u0301j\u00e0/vu.jpg');
  expect(pictures.find('vu.jpg')).toBeNull();
  expect(pictures.find('other.jpg/x')).toBeNull();
  expect(pictures.others(['x.jpg', 'd\u00e9ja\u0300/vu.jpg'])).toEqual(['other.jpg']);
  expect(new PictureFolder(join(folder, 'absent')).find('a')).toBeNull();
});

test.runIf(process.platform !== 'win32')('a link that leads out of the picture folder is refused, unless it is allowed', async () => {
  const [inside, outside] = [join(folder, 'linked'), join(folder, 'elsewhere')];
  for (const path of [inside, outside]) mkdirSync(path);
  const make = (path: string) =>
    sharp({ create: { width: 9, height: 9, channels: 3, background: '#2a4' } })
      .jpeg()
      .toFile(path);
  await make(join(outside, 'far.jpg'));
  await make(join(inside, 'near.jpg'));
  symlinkSync(join(outside, 'far.jpg'), join(inside, 'far.jpg'));
  symlinkSync('near.jpg', join(inside, 'again.jpg'));
  expect(() => picturePath(inside, 'far.jpg', false)).toThrow(
    /linked\/far\.jpg: is a link that leads out of .*linked, to .*elsewhere\/far\.jpg; allow .*--follow-links/,
  );
  for (const name of ['near.jpg', 'again.jpg', 'absent.jpg']) expect(picturePath(inside, name, false)).toBe(join(inside, name));
  expect(picturePath(inside, 'far.jpg', true)).toBe(join(inside, 'far.jpg'));
  const list = join(folder, 'linked.csv');
  writeFileSync(list, 'image,caption,split\nnear.jpg,a green one,train\nfar.jpg,another,val\n');
  const args = ['prepare', '--table', list, '--images', inside, '--out', join(folder, 'linked.json'), '--quiet'];
  expect(await glimpse(...args)).toMatchObject({ code: 1, stderr: expect.stringContaining('is a link that leads out of') });
  expect(await glimpse(...args, '--follow-links')).toMatchObject({ code: 0 });
});
