"""Raw footage to training material: shots and camera motion, faces and voices, clips and their quality."""
