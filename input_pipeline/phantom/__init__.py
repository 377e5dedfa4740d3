"""A phantom of NIH ChestX-ray14: drawn chest films whose causes are known.

`write.write_phantom` makes a folder in exactly the data set's layout
(`images/*.png`, `Data_Entry_2017_v2020.csv`, `BBox_List_2017.csv` in 1024-pixel
units, `train_val_list.txt`, `test_list.txt`), so that what reads the one reads
the other. Every film has two kinds of evidence for each of its findings:

* the lesion, drawn where and as it occurs; for the boxed findings the box is
  the extent of what was drawn (for Cardiomegaly: of the heart), on every test
  film;
* the shortcut: a faint grating over the whole film, of the finding's own
  frequency and orientation and of random phase, in `shortcut_prevalence` of the
  films with the finding and in no other. It is predictive and not robust.

The test films are written three times under the same names: `images/` has
both, `images_without_shortcut/` the lesions only, `images_without_lesions/` the
gratings only. All else (anatomy, acquisition, noise) is the same, so that the
differences between the folders are the causes.

Films of a patient share the anatomy and, where a finding persists, the lesion;
the acquisition is new each time. Findings follow a probit model with the data
set's commonest co-occurrences. Prevalences are those of the data set, but the
rare findings are raised to some 5 % (Hernia: 0.2 % in the data set), so that
1,000 test films hold at least 30 positives of each. As in the data set, test
patients are sicker and more often filmed AP.

Coordinates: anatomy in x (0 = midline, positive = patient's left, the image's
right) and y (0 = top, 1 = bottom), in units of the film's height; boxes are
(ymin, xmin, ymax, xmax) in [0, 1]. Attenuation is summed along the ray (tissue,
less air, plus bone) and turned into gray by an exponential film curve, so that
a rib over the lung and a rib over the heart look as they do on a film.

From a shell: python -m input_pipeline.phantom --dir=/tmp/phantom
"""
